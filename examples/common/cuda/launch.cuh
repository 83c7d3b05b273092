// Launches an example's kernels.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include <tessera/cuda/runtime/error.cuh>

namespace example::cuda {

/// The calling thread's index in the grid.
__device__ inline std::int64_t this_thread() {
  return static_cast<std::int64_t>(blockIdx.x) * static_cast<std::int64_t>(blockDim.x) + threadIdx.x;
}

/// kernel(arguments...) on at least `threads` threads, in blocks of 256. Never blocks. Throws tessera::CudaError.
template <class... Parameters, class... Arguments>
void launch(cudaStream_t stream, std::int64_t threads, void (*kernel)(Parameters...), Arguments... arguments) {
  if (threads == 0) return;
  cudaLaunchConfig_t config{};
  config.gridDim = dim3(static_cast<unsigned>((threads + 255) / 256));
  config.blockDim = dim3(256);
  config.stream = stream;
  tessera::cuda_check(cudaLaunchKernelEx(&config, kernel, static_cast<Parameters>(arguments)...), "launching a kernel");
}

}  // namespace example::cuda
