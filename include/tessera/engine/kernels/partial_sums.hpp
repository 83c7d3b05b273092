// From the partial sums of a step's passes to the mean over its micro-batches (design section 4, points 1 to 3): adds
// two partial sums, defines the factors of the mean, and rounds the final sum once.
#pragma once

#include <type_traits>

#include <tessera/core/bfloat16.hpp>
#include <tessera/core/config.hpp>
#include <tessera/core/math.hpp>
#include <tessera/engine/kernels/packs.hpp>

namespace tessera::engine {

/// The factors of the mean over M micro-batches: their sum is multiplied by `scale`, rounded to the reduction type, and
/// later divided by `divisor` times the loss scale.
struct Mean {
  float scale = 1;
  double divisor = 1;
};

/// The factors for a reduction type. A float can hold the sum, and the update's one multiplication divides it. A 16-bit
/// type can hold the mean but not the sum, so the sum is scaled in fp32. If the communication library sums (ordered:
/// false), scaling rounds each rank's gradients once more; bfloat16 has the range of a float and is not scaled. The
/// library rounds its factor to the type; the divisor corrects the difference from 1/M.
template <class Reduction>
constexpr Mean mean_of(double micro_batches, bool ordered) {
  const auto scale = static_cast<float>(1 / micro_batches);
  if constexpr (sizeof(Reduction) >= sizeof(float)) {
    return {1, micro_batches};
  } else {
    if (ordered) return {scale, 1};
    if (std::is_same_v<Reduction, bfloat16>) return {1, micro_batches};
    constexpr float least = 0x1p-14f;  // the smallest normal float16
    const float rounded = static_cast<float>(Reduction(max(scale, least)));
    return {rounded, micro_batches * static_cast<double>(rounded)};
  }
}

/// Adds two partial sums, the older one first: executor.for_each(n, AddOlder{...}).
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

/// Scales the sum of several passes and rounds it once.
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
