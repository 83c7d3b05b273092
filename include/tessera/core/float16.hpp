// float16 (IEEE binary16) as a storage type. It has no arithmetic; callers convert to float.
#pragma once

#include <cstdint>

#include <tessera/core/config.hpp>
#include <tessera/core/math.hpp>

namespace tessera {

/// 1 sign, 5 exponent and 10 fraction bits. Rounds to nearest, ties to even. Too large values become infinite; every
/// NaN becomes the NaN whose bits are all ones. The host code has integer operations and selects only, so that loops
/// vectorize on machines without half-precision floats. A device has one instruction for each conversion.
struct float16 {
  std::uint16_t bits = 0;

  float16() = default;

  TESSERA_HD explicit constexpr float16(float value) noexcept {
#if TESSERA_ON_DEVICE
    if (!__builtin_is_constant_evaluated()) {
      asm("cvt.rn.f16.f32 %0, %1;" : "=h"(bits) : "f"(value));
      if (value != value) bits = nan;
      return;
    }
#endif
    const auto wide = bits_as<std::uint32_t>(value);
    const std::uint32_t size = wide & 0x7fffffffu;
    // Below 2^-14 the last fraction bit has the value 2^-24, as in a float near 1/2. Adding 1/2 therefore rounds.
    const std::uint32_t tiny = bits_as<std::uint32_t>(bits_as<float>(size) + 0.5f) - half;
    const std::uint32_t normal = (size - rebias + 0xfffu + ((size >> 13) & 1u)) >> 13;
    const std::uint32_t beyond = size > float_infinity ? nan : infinity;
    const std::uint32_t finite = size < smallest_normal ? tiny : normal;
    const std::uint32_t rounded = size >= two_to_16 ? beyond : finite;
    bits = static_cast<std::uint16_t>(rounded | (wide >> 16 & 0x8000u));
  }

  TESSERA_HD constexpr operator float() const noexcept {
#if TESSERA_ON_DEVICE
    if (!__builtin_is_constant_evaluated()) {
      float wide;
      asm("cvt.f32.f16 %0, %1;" : "=f"(wide) : "h"(bits));
      return wide;
    }
#endif
    const std::uint32_t size = (bits & 0x7fffu) << 13;
    const float tiny = bits_as<float>(size + smallest_normal) - bits_as<float>(smallest_normal);
    const std::uint32_t normal = size + rebias;
    const std::uint32_t beyond = size | float_infinity;
    const std::uint32_t finite = size < (0x400u << 13) ? bits_as<std::uint32_t>(tiny) : normal;
    const std::uint32_t wide = size >= (infinity << 13) ? beyond : finite;
    return bits_as<float>(wide | (bits & 0x8000u) << 16);
  }

 private:
  static constexpr std::uint32_t infinity = 0x7c00;
  static constexpr std::uint32_t nan = 0xffff;
  static constexpr std::uint32_t float_infinity = 0x7f800000;
  static constexpr std::uint32_t half = 0x3f000000;             // 1/2 as a float
  static constexpr std::uint32_t smallest_normal = 0x38800000;  // 2^-14 as a float
  static constexpr std::uint32_t two_to_16 = 0x47800000;
  static constexpr std::uint32_t rebias = (127 - 15) << 23;
};

}  // namespace tessera
