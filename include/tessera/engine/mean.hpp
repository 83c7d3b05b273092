// Where the sum of a step's micro-batches becomes their mean: design section 4, points 1 to 3.
#pragma once

#include <type_traits>

#include <tessera/core/bfloat16.hpp>
#include <tessera/core/math.hpp>

namespace tessera {

/// The sum of M micro-batches is multiplied by `scale` before it is rounded to the reduction type, and divided by
/// `divisor` after that, with the loss scale.
struct Mean {
  float scale = 1;
  double divisor = 1;
};

/// A float has room for the sum, and is divided by the update's one multiplication. 16 bits have room for the mean of
/// what fits into 16 bits, not for the sum: it is scaled in fp32. Where a library sums (ordered: false), scaling costs
/// each rank's gradients a rounding: bfloat16, whose range is a float's, is spared that. The library's factor is itself
/// rounded to the type, and what it lacks of 1/M is left to divide by.
template <class Reduction>
constexpr Mean mean_of(double micro_batches, bool ordered) {
  const auto scale = static_cast<float>(1 / micro_batches);
  if constexpr (sizeof(Reduction) >= sizeof(float)) {
    return {1, micro_batches};
  } else {
    if (ordered) return {scale, 1};
    if (std::is_same_v<Reduction, bfloat16>) return {1, micro_batches};
    constexpr float least = 0x1p-14f;  // float16 has fewer bits below, and none in the end
    const float rounded = static_cast<float>(Reduction(max(scale, least)));
    return {rounded, micro_batches * static_cast<double>(rounded)};
  }
}

}  // namespace tessera
