// What the CUDA runtime reports, as an exception.
#pragma once

#include <cuda_runtime.h>

#include <string>

#include <tessera/core/error.hpp>
#include <tessera/core/message.hpp>

namespace tessera {

/// A call of the CUDA runtime that failed: "what was done: why it could not be".
struct CudaError : Error {
  CudaError(const char* what, cudaError_t why);

  cudaError_t code;
};

namespace device {

inline std::string version_name(int version) { return message({version / 1000, ".", version % 1000 / 10}); }

/// One clear line for what a machine lacks; for all else the runtime's own words.
inline std::string reason(cudaError_t why) {
  if (why == cudaErrorNoDevice) return "there is no CUDA device";
  if (why == cudaErrorInsufficientDriver) {
    int driver = 0, runtime = 0;
    cudaDriverGetVersion(&driver);
    cudaRuntimeGetVersion(&runtime);
    if (driver == 0) return "there is no CUDA driver on this machine";
    return message(
        {"the driver is for CUDA ", version_name(driver), ", this program needs one for CUDA ", version_name(runtime)});
  }
  return message({cudaGetErrorString(why), " (", cudaGetErrorName(why), ")"});
}

}  // namespace device

inline CudaError::CudaError(const char* what, cudaError_t why)
    : Error(message({what, ": ", device::reason(why)})), code(why) {}

/// Throws CudaError unless `result` is success. what: what was done, a literal.
inline void cuda_check(cudaError_t result, const char* what) {
  if (result == cudaSuccess) return;
  static_cast<void>(cudaGetLastError());  // it is told here: the next call is not to be blamed for it
  throw CudaError(what, result);
}

}  // namespace tessera
