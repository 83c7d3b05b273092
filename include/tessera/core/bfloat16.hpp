// bfloat16 as a storage type: the upper half of a float. It has no arithmetic; callers convert to float.
#pragma once

#include <cstdint>

#include <tessera/core/config.hpp>
#include <tessera/core/math.hpp>

namespace tessera {

/// 1 sign, 8 exponent and 7 fraction bits. Rounds to nearest, ties to even. Every NaN becomes the NaN whose bits are
/// all ones.
struct bfloat16 {
  std::uint16_t bits = 0;

  bfloat16() = default;

  // No branch, and one narrowing at the end: OR with a mask of ones makes every NaN all ones (measured: bench/update).
  TESSERA_HD explicit constexpr bfloat16(float value) noexcept {
#if TESSERA_ON_DEVICE
    if (!__builtin_is_constant_evaluated()) {
      asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(bits) : "f"(value));
      if (value != value) bits = 0xffff;
      return;
    }
#endif
    const auto wide = bits_as<std::uint32_t>(value);
    const std::uint32_t to_nearest = wide + 0x7fffu + ((wide >> 16) & 1u);
    const std::uint32_t nan = value != value ? ~0u : 0u;
    bits = static_cast<std::uint16_t>((to_nearest | nan) >> 16);
  }

  TESSERA_HD constexpr operator float() const noexcept {
    return bits_as<float>(static_cast<std::uint32_t>(bits) << 16);
  }
};

}  // namespace tessera
