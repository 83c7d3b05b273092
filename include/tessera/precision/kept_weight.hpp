// How the fp32 weight that a rule updates is stored: in the parameter, beside it, or in both.
//
//     Parameter   Master      extra bytes    the weight is
//     float       float       0              the parameter
//     16 bits     float       4              the master weight; the parameter is rounded from it
//     bfloat16    Remainder   2              the bits of parameter and remainder combined
//     bfloat16    NoMaster    0              the parameter, with stochastic rounding
#pragma once

#include <cstdint>

#include <tessera/core/bfloat16.hpp>
#include <tessera/core/config.hpp>
#include <tessera/core/math.hpp>
#include <tessera/core/random.hpp>

namespace tessera {

/// The lower half of a float whose upper half is a bfloat16, rounded to nearest with ties away from zero. With ties to
/// even, two weights would have the same pair.
struct Remainder {
  std::int16_t bits = 0;

  Remainder() = default;
  TESSERA_HD explicit constexpr Remainder(float weight) noexcept
      : bits(static_cast<std::int16_t>(bits_as<std::uint32_t>(weight))) {}

  /// The parameter of a weight. A NaN from arithmetic remains NaN; NaNs with other bits may become infinity or zero.
  TESSERA_HD static constexpr bfloat16 parameter(float weight) noexcept {
    bfloat16 parameter;
    parameter.bits = static_cast<std::uint16_t>((bits_as<std::uint32_t>(weight) + 0x8000u) >> 16);
    return parameter;
  }
  /// Restores the weight exactly, for every bit pattern.
  TESSERA_HD constexpr float weight(bfloat16 parameter) const noexcept {
    return bits_as<float>((static_cast<std::uint32_t>(parameter.bits) << 16) +
                                static_cast<std::uint32_t>(std::int32_t{bits}));
  }
};

/// There is no master weight.
struct NoMaster {};

namespace precision {

/// Stochastic rounding, unbiased: rounds up with a probability proportional to the discarded bits. random: its lower 16
/// bits are used. Infinity and NaN do not change.
TESSERA_HD constexpr bfloat16 round_at_random(float weight, std::uint32_t random) noexcept {
  if (weight != weight) return bfloat16(weight);
  bfloat16 rounded;
  rounded.bits = static_cast<std::uint16_t>((bits_as<std::uint32_t>(weight) + (random & 0xffffu)) >> 16);
  return rounded;
}

/// The weights of n elements. load(i): the weight. store(i, w): stores it. parameter_of(w): the parameter at
/// construction, also on ranks that do not own the element. place: the offset of element 0 in the flat space.
template <class Parameter, class Master>
struct KeptWeight;

template <>
struct KeptWeight<float, float> {
  float* parameter = nullptr;
  index_t place = 0;

  TESSERA_HD TESSERA_ALWAYS_INLINE float load(index_t i) const noexcept { return parameter[i]; }
  TESSERA_HD TESSERA_ALWAYS_INLINE void store(index_t i, float weight) const noexcept { parameter[i] = weight; }
  TESSERA_HD static float parameter_of(float weight) noexcept { return weight; }
};

/// store() in two phases, for loops that round one block later, so that rounding does not wait for the rule's division
/// (exec/vectorize.hpp). On a Zen 3, 2^11 elements, ns per element: g++ 0.60 in one phase, 0.57 in two; clang 0.65 and
/// 0.53 (bench/update).
template <class Parameter>
struct KeptWeight<Parameter, float> {
  Parameter* parameter = nullptr;
  float* master = nullptr;
  index_t place = 0;

  TESSERA_HD TESSERA_ALWAYS_INLINE float load(index_t i) const noexcept { return master[i]; }
  TESSERA_HD TESSERA_ALWAYS_INLINE void store(index_t i, float weight) const noexcept {
    store_first(i, weight);
    store_last(i);
  }
  TESSERA_HD TESSERA_ALWAYS_INLINE void store_first(index_t i, float weight) const noexcept { master[i] = weight; }
  TESSERA_HD TESSERA_ALWAYS_INLINE void store_last(index_t i) const noexcept { parameter[i] = Parameter(master[i]); }
  TESSERA_HD static Parameter parameter_of(float weight) noexcept { return Parameter(weight); }
};

template <>
struct KeptWeight<bfloat16, Remainder> {
  bfloat16* parameter = nullptr;
  Remainder* master = nullptr;
  index_t place = 0;

  TESSERA_HD TESSERA_ALWAYS_INLINE float load(index_t i) const noexcept { return master[i].weight(parameter[i]); }
  TESSERA_HD TESSERA_ALWAYS_INLINE void store(index_t i, float weight) const noexcept {
    parameter[i] = Remainder::parameter(weight);
    master[i] = Remainder(weight);
  }
  TESSERA_HD static bfloat16 parameter_of(float weight) noexcept { return Remainder::parameter(weight); }
};

template <>
struct KeptWeight<bfloat16, NoMaster> {
  bfloat16* parameter = nullptr;
  core::StepRandom random{};
  index_t place = 0;

  TESSERA_HD TESSERA_ALWAYS_INLINE float load(index_t i) const noexcept { return static_cast<float>(parameter[i]); }
  TESSERA_HD TESSERA_ALWAYS_INLINE void store(index_t i, float weight) const noexcept {
    parameter[i] = round_at_random(weight, random.bits(place + i));
  }
  TESSERA_HD static bfloat16 parameter_of(float weight) noexcept { return bfloat16(weight); }
};

}  // namespace precision

}  // namespace tessera
