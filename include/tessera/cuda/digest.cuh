// The digest of exec/host.hpp on the device: the same number.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>
#include <cub/block/block_reduce.cuh>
#include <type_traits>

#include <tessera/core/math.hpp>
#include <tessera/cuda/device.cuh>
#include <tessera/cuda/for_each.cuh>

namespace tessera::device {

inline constexpr LoopTuning digest_tuning{.threads = 256, .blocks_a_multiprocessor = 8};

/// Adds, modulo 2^64, each element's bits times an odd number of its place to *sum. (DeviceReduce would want memory of
/// its own for partial sums; whoever adds integers can leave that to one atomic addition a block.)
template <class T>
__global__ void __launch_bounds__(digest_tuning.threads) digest_kernel(const T* values, index_t n, std::uint64_t* sum) {
  using Bits = std::conditional_t<sizeof(T) == 2, std::uint16_t, std::uint32_t>;
  using Reduce = cub::BlockReduce<std::uint64_t, digest_tuning.threads>;
  __shared__ typename Reduce::TempStorage memory;
  std::uint64_t part = 0;
  for (index_t i = thread_of_grid(); i < n; i += threads_of_grid())
    part += (std::uint64_t{bits_as<Bits>(values[i])} + 1) * (2 * static_cast<std::uint64_t>(i) + 1);
  part = Reduce(memory).Sum(part);
  if (threadIdx.x == 0) atomicAdd(reinterpret_cast<unsigned long long*>(sum), static_cast<unsigned long long>(part));
}

}  // namespace tessera::device
