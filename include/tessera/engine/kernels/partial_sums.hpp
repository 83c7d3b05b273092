// From partial sums of a step's passes to the mean of its micro-batches (design section 4, points 1 to 3): the merge of
// two, the factors of the mean, and the one rounding of the last sum.
#pragma once

#include <type_traits>

#include <tessera/core/bfloat16.hpp>
#include <tessera/core/config.hpp>
#include <tessera/core/math.hpp>
#include <tessera/engine/kernels/packs.hpp>

namespace tessera::engine {

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

/// Merges two partial sums, the older first: executor.for_each(n, AddOlder{...}).
struct AddOlder {
  const float* older;
  float* sum;
  TESSERA_HD TESSERA_ALWAYS_INLINE void operator()(index_t i) const noexcept { sum[i] = older[i] + sum[i]; }

  static constexpr int pack_elements = 4;
  index_t lead() const noexcept { return 0; }
  template <int n>
  TESSERA_HD TESSERA_ALWAYS_INLINE void pack(index_t i, index_t end) const noexcept {
    const packs::Group<n> group{i, end, i + n <= end && packs::aligned<n>(older + i) && packs::aligned<n>(sum + i)};
    auto before = group.load(older);
    auto both = group.load(sum);
    TESSERA_UNROLL
    for (int k = 0; k < n; ++k) both.of[k] = before.of[k] + both.of[k];
    group.store(sum, both);
  }
};

/// The one rounding of a sum of several passes, which is scaled before.
template <class Reduction>
struct Round {
  const float* sum;
  Reduction* out;
  float scale;
  TESSERA_HD TESSERA_ALWAYS_INLINE void operator()(index_t i) const noexcept { out[i] = rounded(sum[i]); }

  static constexpr int pack_elements = 4;
  index_t lead() const noexcept { return 0; }
  template <int n>
  TESSERA_HD TESSERA_ALWAYS_INLINE void pack(index_t i, index_t end) const noexcept {
    const packs::Group<n> group{i, end, i + n <= end && packs::aligned<n>(sum + i) && packs::aligned<n>(out + i)};
    const auto sums = group.load(sum);
    packs::Pack<Reduction, n> all;
    TESSERA_UNROLL
    for (int k = 0; k < n; ++k) all.of[k] = rounded(sums.of[k]);
    group.store(out, all);
  }

 private:
  TESSERA_HD TESSERA_ALWAYS_INLINE Reduction rounded(float whole) const noexcept {
    TESSERA_ROUND_EACH_OPERATION
    return Reduction(whole * scale);
  }
};

}  // namespace tessera::engine
