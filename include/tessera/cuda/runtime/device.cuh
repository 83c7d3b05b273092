// The current device of a thread, kernel launches, and the index of a device thread in its grid.
#pragma once

#include <cuda_runtime.h>

#include <tessera/core/math.hpp>
#include <tessera/cuda/runtime/error.cuh>

namespace tessera::device {

/// The calling thread's current device. Throws CudaError: no device, no driver.
inline int current() {
  int device = 0;
  cuda_check(cudaGetDevice(&device), "finding the current CUDA device");
  return device;
}

inline int attribute(int device, cudaDeviceAttr which) {
  int value = 0;
  cuda_check(cudaDeviceGetAttribute(&value, which, device), "reading an attribute of a CUDA device");
  return value;
}

/// Sets the calling thread's current device for the lifetime of the object.
class Use {
 public:
  explicit Use(int device) : before_(current()), device_(device) {
    if (device_ != before_) cuda_check(cudaSetDevice(device_), "choosing a CUDA device");
  }
  Use(const Use&) = delete;
  Use& operator=(const Use&) = delete;
  ~Use() {
    if (device_ != before_) cudaSetDevice(before_);
  }

 private:
  int before_;
  int device_;
};

inline int multiprocessors(int device) { return attribute(device, cudaDevAttrMultiProcessorCount); }

/// kernel<<<blocks, threads, 0, stream>>>(arguments...), on the stream's device, which must be the current one. Never
/// blocks. Throws CudaError.
template <class... Parameters, class... Arguments>
void launch(void (*kernel)(Parameters...), index_t blocks, index_t threads, cudaStream_t stream,
            const Arguments&... arguments) {
  cudaLaunchConfig_t config{};
  config.gridDim = dim3(static_cast<unsigned>(blocks));
  config.blockDim = dim3(static_cast<unsigned>(threads));
  config.stream = stream;
  cuda_check(cudaLaunchKernelEx(&config, kernel, arguments...), "launching a kernel");
}

/// The number of blocks for `n` > 0 elements, at most `most`; with fewer blocks, each handles several parts.
constexpr index_t blocks_for(index_t n, index_t of_a_block, index_t most) noexcept {
  return min(ceil_div(n, of_a_block), most);
}

// Declared and never defined: its name is the error message of the compiler or linker for code that calls it.
extern "C" __device__ void tessera_refuses_use_fast_math_and_ftz_true();

__device__ inline index_t thread_of_grid() {
  if (TESSERA_FLUSHES_SUBNORMALS) tessera_refuses_use_fast_math_and_ftz_true();
  return static_cast<index_t>(blockIdx.x) * static_cast<index_t>(blockDim.x) + static_cast<index_t>(threadIdx.x);
}
__device__ inline index_t threads_of_grid() {
  return static_cast<index_t>(gridDim.x) * static_cast<index_t>(blockDim.x);
}

}  // namespace tessera::device
