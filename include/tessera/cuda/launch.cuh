// Launching kernels, and where a thread stands in a grid.
#pragma once

#include <cuda_runtime.h>

#include <tessera/core/math.hpp>
#include <tessera/cuda/device.cuh>
#include <tessera/cuda/error.cuh>

namespace tessera::device {

inline int multiprocessors(int device) { return attribute(device, cudaDevAttrMultiProcessorCount); }

/// kernel<<<blocks, threads, 0, stream>>>(arguments...), on the stream's device, which is the current one. Never blocks.
/// Throws CudaError.
template <class... Parameters, class... Arguments>
void launch(void (*kernel)(Parameters...), unsigned blocks, unsigned threads, cudaStream_t stream,
            const Arguments&... arguments) {
  cudaLaunchConfig_t config{};
  config.gridDim = dim3(blocks);
  config.blockDim = dim3(threads);
  config.stream = stream;
  cuda_check(cudaLaunchKernelEx(&config, kernel, arguments...), "launching a kernel");
}

/// As many blocks as `n` > 0 elements have use for, and at most `most`: each then takes several turns.
inline unsigned blocks_for(index_t n, index_t of_a_block, index_t most) noexcept {
  return static_cast<unsigned>(min(ceil_div(n, of_a_block), most));
}

__device__ inline index_t thread_of_grid() {
  return static_cast<index_t>(blockIdx.x) * static_cast<index_t>(blockDim.x) + static_cast<index_t>(threadIdx.x);
}
__device__ inline index_t threads_of_grid() {
  return static_cast<index_t>(gridDim.x) * static_cast<index_t>(blockDim.x);
}

}  // namespace tessera::device
