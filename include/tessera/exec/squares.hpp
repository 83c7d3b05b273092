// Sums of squares of 64-element blocks, in fp64 and in one fixed order on every machine.
#pragma once

#include <cstdint>

#include <tessera/core/config.hpp>
#include <tessera/core/exact_sum.hpp>
#include <tessera/core/math.hpp>
#include <tessera/exec/vectorize.hpp>

namespace tessera {

/// The sum of squares of gradients, and the first gradient that is not finite.
struct SquareSum {
  static constexpr std::uint64_t none = ~std::uint64_t{0};

  ExactSum squares;
  std::uint64_t first_non_finite = none;  ///< its place, in the caller's numbering
};

}  // namespace tessera

namespace tessera::squares {

/// The sum of squares of one block: lane l adds elements l, l+8, ..., l+56 in this order; then
/// ((l0+l4)+(l2+l6))+((l1+l5)+(l3+l7)). A float's square is exact in fp64, and the sum of 64 of them does not overflow.
/// So the sum is finite if and only if all elements are.
template <class T>
TESSERA_ALWAYS_INLINE double of_block(const T* x) noexcept {
  double lane[8];
  TESSERA_INDEPENDENT
  for (int l = 0; l < 8; ++l) {
    const auto square = [&](int k) __attribute__((always_inline)) {
      const auto wide = static_cast<double>(static_cast<float>(x[l + 8 * k]));
      return wide * wide;
    };
    lane[l] = ((((((square(0) + square(1)) + square(2)) + square(3)) + square(4)) + square(5)) + square(6)) + square(7);
  }
  return ((lane[0] + lane[4]) + (lane[2] + lane[6])) + ((lane[1] + lane[5]) + (lane[3] + lane[7]));
}

// The sums of `blocks` whole blocks.
template <class T>
struct Sums {
  const T* values;
  index_t blocks;
  double* sums;

  TESSERA_ALWAYS_INLINE void operator()() const {
    for (index_t b = 0; b < blocks; ++b) sums[b] = of_block(values + b * block);
  }
};

template <class T>
index_t first_non_finite(const T* values, index_t begin, index_t end) noexcept {
  for (index_t i = begin; i < end; ++i) {
    if (!is_finite(static_cast<float>(values[i]))) return i;
  }
  return -1;
}

/// Adds the finite block sums of values[begin, end) to `sum` and normalises it. Returns the index of the first element
/// that is not finite, or -1. begin: a multiple of 64. A short last block is padded with zeros.
template <class T>
index_t add(const T* values, index_t begin, index_t end, ExactSum& sum) noexcept {
  constexpr index_t batch = 32;
  double sums[batch];
  index_t first = -1;
  const auto take = [&](double block_sum, index_t at) {
    if (is_finite(block_sum)) {
      sum.add(block_sum);
    } else if (first < 0) {
      first = first_non_finite(values, at, at + block < end ? at + block : end);
    }
  };
  index_t at = begin;
  while (end - at >= block) {
    const index_t blocks = (end - at) / block < batch ? (end - at) / block : batch;
    exec::run_as(exec::best_isa(), Sums<T>{values + at, blocks, sums});
    for (index_t b = 0; b < blocks; ++b, at += block) take(sums[b], at);
    sum.normalise();
  }
  if (at < end) {
    T padded[block] = {};
    for (index_t i = at; i < end; ++i) padded[i - at] = values[i];
    exec::run_as(exec::best_isa(), Sums<T>{padded, 1, sums});
    take(sums[0], at);
    sum.normalise();
  }
  return first;
}

// Stores body(i) at numbers[i + lead].
template <class Body>
struct Tile {
  float* numbers;
  index_t lead;
  Body body;

  TESSERA_ALWAYS_INLINE void operator()(index_t i) const noexcept { numbers[i + lead] = body(i); }
};

/// As add(), for the numbers body(i), i in [begin, end). Number 0 is element `lead` of its block; elements before it
/// and after the last count as zero. begin + lead is a multiple of 64, or begin is 0. Body: as for vectorize(). Skips
/// blocks with a non-finite number.
template <class Body>
void add_of(const Body& body, index_t begin, index_t end, index_t lead, ExactSum& sum) noexcept {
  constexpr index_t most = 32 * block;
  float numbers[most];
  while (begin < end) {
    const index_t skip = (begin + lead) % block;
    const index_t count = end - begin < most - skip ? end - begin : most - skip;
    const index_t filled = round_up(skip + count, block);
    for (index_t i = 0; i < skip; ++i) numbers[i] = 0;
    exec::vectorize(begin, begin + count, Tile<Body>{numbers, skip - begin, body});
    for (index_t i = skip + count; i < filled; ++i) numbers[i] = 0;
    add(numbers, 0, filled, sum);
    begin += count;
  }
}

}  // namespace tessera::squares
