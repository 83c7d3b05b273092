// The sums of squares of exec/squares.hpp as a kernel, with the same bits of every block sum, in one pass over memory.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>
#include <cub/block/block_reduce.cuh>

#include <tessera/core/config.hpp>
#include <tessera/core/exact_sum.hpp>
#include <tessera/core/math.hpp>
#include <tessera/cuda/runtime/device.cuh>
#include <tessera/cuda/exec/for_each.cuh>
#include <tessera/exec/squares.hpp>

namespace tessera::device {

/// A thread has 16 numbers, 64 bytes, in flight: see for_each.cuh. A body may read several arrays per number.
inline constexpr LoopTuning squares_tuning{.threads = 256, .blocks_a_multiprocessor = 4};

inline constexpr index_t lanes_of_warp = 32;
inline constexpr index_t tile = lanes_of_warp * block;  ///< elements of a warp's iteration: one block per lane
inline constexpr std::uint64_t none = ~std::uint64_t{0};

/// The numbers of an array with `end` elements. Finds the first one that is not finite.
template <class T>
struct ArrayNumbers {
  const T* values;
  index_t end;
  index_t place;  // of values[0], for the result of first_of()

  static constexpr int rounds_on_their_way = sizeof(T) == 2 ? 4 : 2;
  static constexpr int unrolled = 8;
  static constexpr bool finds = true;

  __device__ bool whole(index_t begin) const { return begin + tile <= end; }
  __device__ float operator()(index_t i) const { return static_cast<float>(values[i]); }
  __device__ float padded(index_t i) const { return i < end ? static_cast<float>(values[i]) : 0.0f; }

  __device__ std::uint64_t first_of(index_t begin) const {
    for (index_t i = begin; i < min(begin + block, end); ++i)
      if (!is_finite(static_cast<float>(values[i]))) return static_cast<std::uint64_t>(place + i);
    return none;
  }
};

/// `lead` zeros, followed by body(i) for 0 <= i < end - lead. There are eight copies of the body's code, which a
/// compiler may fuse differently. Which copy computes a number depends only on its position in its block.
template <class Body>
struct BodyNumbers {
  const Body& body;
  index_t end;
  index_t lead;

  static constexpr int rounds_on_their_way = 1;
  static constexpr int unrolled = 1;  // more would not fit in registers
  static constexpr bool finds = false;

  __device__ bool whole(index_t) const { return false; }  // false, so that the body is compiled once
  __device__ float operator()(index_t) const { return 0; }
  __device__ float padded(index_t i) const { return i >= lead && i < end ? body(i - lead) : 0.0f; }
};

/// Some limbs of a thread's sum, in registers. While addends have similar sizes, no other memory is accessed.
class LimbWindow {
 public:
  /// Adds to the window. Moves the window if necessary, and adds its old content to `limbs`, which the block shares.
  __device__ void add(double value, std::uint64_t* limbs) {
    const ExactSum::Addend addend = ExactSum::addend(value);
    const int offset = addend.limb - base_;
    if (offset != 0 && offset != 1) {
      flush(limbs);
      base_ = offset > 0 ? addend.limb - 1 : addend.limb;  // later sums are likely to have a similar size
    }
    const bool upper = addend.limb != base_;
    digit_[0] += upper ? 0 : addend.digit[0];
    digit_[1] += upper ? addend.digit[0] : addend.digit[1];
    digit_[2] += upper ? addend.digit[1] : addend.digit[2];
    digit_[3] += upper ? addend.digit[2] : 0;
  }

  static constexpr int size = 4;
  __device__ int base() const { return base_; }
  __device__ std::uint64_t digit(int i) const { return digit_[i]; }
  __device__ bool empty() const { return (digit_[0] | digit_[1] | digit_[2] | digit_[3]) == 0; }
  __device__ void clear() {
    for (std::uint64_t& digit : digit_) digit = 0;
  }

 private:
  __device__ void flush(std::uint64_t* limbs) {
    for (int i = 0; i < size; ++i)
      if (digit_[i] != 0)
        atomicAdd(reinterpret_cast<unsigned long long*>(limbs + base_ + i), static_cast<unsigned long long>(digit_[i]));
    clear();
  }

  int base_ = -8;  // digits below limb 0 and above the last limb remain zero
  std::uint64_t digit_[size] = {};
};

struct Least {
  __device__ std::uint64_t operator()(std::uint64_t a, std::uint64_t b) const { return b < a ? b : a; }
};

// One iteration of a warp over the tile that begins at `begin`: each lane gets the sum of one 64-element block.
//
//     element      0 .. 7   8 .. 15  ...  56 .. 63 | 64 ..          lane l of 8 adds l, l + 8, ..., l + 56: 32 lanes
//     lane         0 .. 7   0 ..  7        0 ..  7 |  8 .. 15 ...   read 4 blocks per round, in whole memory sectors;
//                                                                   after 8 rounds each lane has one block's sum
template <class Numbers>
__device__ double block_sum(const Numbers& numbers, index_t begin) {
  constexpr int rounds = 8, at_once = Numbers::rounds_on_their_way;
  const int lane = static_cast<int>(threadIdx.x % 32), of_eight = lane % 8;
  const index_t first = begin + lane / 8 * block + of_eight;
  const bool whole = numbers.whole(begin);
  double kept = 0;
#pragma unroll Numbers::unrolled
  for (int round = 0; round < rounds; round += at_once) {
    float x[to_size(at_once)][8];
    if (whole) {
#pragma unroll
      for (int r = 0; r < at_once; ++r)
#pragma unroll
        for (int k = 0; k < 8; ++k) x[r][k] = numbers(first + (round + r) * 4 * block + 8 * k);
    } else {
#pragma unroll
      for (int r = 0; r < at_once; ++r)
#pragma unroll
        for (int k = 0; k < 8; ++k) x[r][k] = numbers.padded(first + (round + r) * 4 * block + 8 * k);
    }
#pragma unroll
    for (int r = 0; r < at_once; ++r) {
      // A float's square is exact in fp64, so fusing it with the addition does not change the bits.
      double sum = static_cast<double>(x[r][0]) * static_cast<double>(x[r][0]);
#pragma unroll
      for (int k = 1; k < 8; ++k) sum += static_cast<double>(x[r][k]) * static_cast<double>(x[r][k]);
      for (int apart = 4; apart > 0; apart /= 2) sum += __shfl_xor_sync(0xffffffffu, sum, apart);
      if (of_eight == round + r) kept = sum;
    }
  }
  return kept;
}

/// Adds the squares of `numbers` to `digits` and, if Numbers::finds, lowers *first. Called by all threads of the grid.
///
///     lanes: a block's sum each  ->  a window of limbs each  ->  the thread block's limbs  ->  digits, 32 bits at a
///     time
///
/// CUB adds the threads' results. It does not compute the block sums, since CUB does not specify the order of its
/// additions.
template <class Numbers>
__device__ void add_squares(const Numbers& numbers, std::uint64_t* digits, std::uint64_t* first) {
  using Reduce = cub::BlockReduce<std::uint64_t, squares_tuning.threads>;
  __shared__ typename Reduce::TempStorage memory;
  __shared__ std::uint64_t limbs[ExactSum::limbs];
  __shared__ std::uint64_t lowest;
  if (threadIdx.x < ExactSum::limbs) limbs[threadIdx.x] = 0;
  __syncthreads();

  LimbWindow window;
  std::uint64_t found = none;
  const index_t warp = thread_of_grid() / lanes_of_warp, warps = threads_of_grid() / lanes_of_warp;
  for (index_t begin = warp * tile; begin < numbers.end; begin += warps * tile) {
    const double sum = block_sum(numbers, begin);
    if (sum > 0 && is_finite(sum)) window.add(sum, limbs);  // adding zero would move the window
    if constexpr (Numbers::finds) {
      const auto lane = static_cast<index_t>(threadIdx.x % 32);
      if (!is_finite(sum) && found == none) found = numbers.first_of(begin + (lane % 8 * 4 + lane / 8) * block);
    }
  }

  // Adds windows with the same base, the lowest base first. Nearly always all windows have the same base.
  while (true) {
    __syncthreads();
    const std::uint64_t mine = window.empty() ? none : static_cast<std::uint64_t>(window.base() + 1);
    const std::uint64_t least = Reduce(memory).Reduce(mine, Least{});
    if (threadIdx.x == 0) lowest = least;
    __syncthreads();
    if (lowest == none) break;
    for (int i = 0; i < LimbWindow::size; ++i) {
      const std::uint64_t digit = Reduce(memory).Sum(mine == lowest ? window.digit(i) : 0);
      if (threadIdx.x == 0 && digit != 0) limbs[static_cast<int>(lowest) - 1 + i] += digit;
      __syncthreads();
    }
    if (mine == lowest) window.clear();
  }
  if constexpr (Numbers::finds) found = Reduce(memory).Reduce(found, Least{});
  if (threadIdx.x != 0) return;
  if (Numbers::finds && found != none)
    atomicMin(reinterpret_cast<unsigned long long*>(first), static_cast<unsigned long long>(found));
  std::uint64_t carry = 0;
  for (int i = 0; i < ExactSum::limbs; ++i) {
    const std::uint64_t digit = limbs[i] + carry;
    carry = digit >> 32;
    if (const std::uint64_t low = digit & 0xffffffffu; low != 0)
      atomicAdd(reinterpret_cast<unsigned long long*>(digits + i), static_cast<unsigned long long>(low));
  }
}

template <class T>
__global__ void __launch_bounds__(squares_tuning.threads, squares_tuning.blocks_a_multiprocessor)
    add_squares_kernel(const T* values, index_t n, index_t place, SquareSum* sum) {
  add_squares(ArrayNumbers<T>{values, n, place}, sum->squares.digits(), &sum->first_non_finite);
}

template <class Body>
__global__ void __launch_bounds__(squares_tuning.threads, squares_tuning.blocks_a_multiprocessor)
    add_squares_of_kernel(index_t n, index_t lead, const __grid_constant__ Body body, ExactSum* sum) {
  if constexpr (LateBoundBody<Body>) {
    if (!body.enabled()) return;
    const auto bound = body.bind();
    add_squares(BodyNumbers<decltype(bound)>{bound, lead + n, lead}, sum->digits(), nullptr);
  } else {
    add_squares(BodyNumbers<Body>{body, lead + n, lead}, sum->digits(), nullptr);
  }
}

inline index_t squares_blocks(index_t n, int multiprocessors) noexcept {
  const index_t most = static_cast<index_t>(multiprocessors) * squares_tuning.blocks_a_multiprocessor;
  return blocks_for(n, squares_tuning.threads / lanes_of_warp * tile, most);
}

}  // namespace tessera::device
