// Errors of the CUDA runtime as exceptions.
#pragma once

#include <cuda_runtime.h>

#include <string>

#include <tessera/core/error.hpp>
#include <tessera/core/message.hpp>

namespace tessera {

/// A call of the CUDA runtime failed. The message has the form "action: reason".
struct CudaError : Error {
  CudaError(const char* what, cudaError_t why);

  cudaError_t code;
};

namespace device {

inline std::string version_name(int version) { return message({version / 1000, ".", version % 1000 / 10}); }

/// A clear message if the machine has no device or no suitable driver; else the runtime's own message.
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

/// Throws CudaError unless `result` is success. what: the action, a literal.
inline void cuda_check(cudaError_t result, const char* what) {
  if (result == cudaSuccess) return;
  static_cast<void>(cudaGetLastError());  // resets the error: the next call would report it otherwise
  throw CudaError(what, result);
}

}  // namespace tessera
