// The digest of exec/value_digest.hpp on the device, with the same result.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>
#include <cub/block/block_reduce.cuh>

#include <tessera/core/math.hpp>
#include <tessera/cuda/runtime/device.cuh>
#include <tessera/cuda/exec/for_each.cuh>
#include <tessera/exec/value_digest.hpp>

namespace tessera::device {

inline constexpr LoopTuning digest_tuning{.threads = 256, .blocks_a_multiprocessor = 8};

/// Adds the contributions of all blocks of `values` to *sum. A warp handles one block after another and reads 128 bytes
/// at once. (cub::DeviceReduce would need temporary memory for partial sums; integer addition needs only one atomic
/// operation per thread block.)
template <class T>
__global__ void __launch_bounds__(digest_tuning.threads) digest_kernel(const T* values, index_t n, std::uint64_t* sum) {
  constexpr int lanes = 32, pairs_of_lane = value_digest::block_pairs / lanes;
  const index_t lane = threadIdx.x % lanes;
  std::uint32_t keys[pairs_of_lane][2];
#pragma unroll
  for (int k = 0; k < pairs_of_lane; ++k)
    for (int half = 0; half < 2; ++half)
      keys[k][half] = value_digest::key(half * value_digest::block_pairs + k * lanes + lane);
  std::uint64_t part = 0;
  for (index_t b = thread_of_grid() / lanes; b * value_digest::block_elements<T> < n; b += threads_of_grid() / lanes) {
    const index_t first = b * 2 * value_digest::block_pairs + lane;
    value_digest::Block block;
#pragma unroll
    for (int k = 0; k < pairs_of_lane; ++k)
      block.add(value_digest::word(values, n, first + k * lanes),
                value_digest::word(values, n, first + value_digest::block_pairs + k * lanes), keys[k][0], keys[k][1]);
    for (int apart = lanes / 2; apart > 0; apart /= 2) {
      block.products += __shfl_xor_sync(0xffffffffu, block.products, apart);
      block.words += __shfl_xor_sync(0xffffffffu, block.words, apart);
    }
    if (lane == 0) part += block.part(b);
  }
  using Reduce = cub::BlockReduce<std::uint64_t, digest_tuning.threads>;
  __shared__ typename Reduce::TempStorage memory;
  part = Reduce(memory).Sum(part);
  if (threadIdx.x == 0) atomicAdd(reinterpret_cast<unsigned long long*>(sum), static_cast<unsigned long long>(part));
}

}  // namespace tessera::device
