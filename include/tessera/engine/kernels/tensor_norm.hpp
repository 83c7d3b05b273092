// The norms of one tensor, for rules that need them, and the loop bodies that compute them from exact sums of squares.
#pragma once

#include <cstdint>

#include <tessera/core/exact_sum.hpp>
#include <tessera/core/math.hpp>

namespace tessera::engine {

/// Words per tensor in the all-reduce of the norms.
inline constexpr index_t norm_words = 2 * ExactSum::limbs;

/// The two norms of a tensor in executor memory: sums of squares until finish(), then their square roots.
struct TensorNorm {
  ExactSum weights;
  ExactSum norm_input;

  /// Computes the square roots once, because rounding an exact sum is slow and every element of an update reads them.
  TESSERA_HD void finish() noexcept {
    weights.set_digit(0, bits_as<std::uint64_t>(::sqrt(weights.value())));
    norm_input.set_digit(0, bits_as<std::uint64_t>(::sqrt(norm_input.value())));
  }
  TESSERA_HD double of_weights() const noexcept { return bits_as<double>(weights.digit(0)); }
  TESSERA_HD double of_norm_input() const noexcept { return bits_as<double>(norm_input.digit(0)); }
};
static_assert(sizeof(TensorNorm) == norm_words * sizeof(std::uint64_t));

/// A loop body over exact sums.
struct NormaliseSums {
  ExactSum* sums;
  TESSERA_HD void operator()(index_t i) const noexcept { sums[i].normalise(); }
};

/// A loop body over tensors.
struct FinishNorms {
  TensorNorm* norms;
  TESSERA_HD void operator()(index_t i) const noexcept { norms[i].finish(); }
};

}  // namespace tessera::engine
