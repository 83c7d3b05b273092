// Random bits as a function of seed, step and element offset, never of rank or thread.
#pragma once

#include <cstdint>

#include <tessera/core/config.hpp>
#include <tessera/core/math.hpp>

namespace tessera::core {

/// A bijection of 64 bits. Flipping any bit of x flips half of the result's bits on average. The finalizer of
/// SplitMix64: Steele, Lea and Flood 2014, "Fast Splittable Pseudorandom Number Generators", figure 16.
TESSERA_HD constexpr std::uint64_t mixed(std::uint64_t x) noexcept {
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
  return x ^ (x >> 31);
}

/// The random bits of one step. An element's bits depend on its offset in the flat space only: they are the same at
/// every stage, world size and number of threads, and in any order.
class StepRandom {
 public:
  constexpr StepRandom() = default;
  TESSERA_HD constexpr StepRandom(std::uint64_t seed, index_t step) noexcept {
    const std::uint64_t key = mixed(mixed(seed + golden) + static_cast<std::uint64_t>(step) * golden);
    first_ = static_cast<std::uint32_t>(key);
    second_ = static_cast<std::uint32_t>(key >> 32);
  }

  /// 32 random bits of the element at offset `place`. Only 32-bit operations, which vector units have: two rounds of a
  /// keyed bijection. Source: Wellons 2018, "Prospecting for Hash Functions" (lowbias32, bias 0.0017 bits per round).
  TESSERA_HD TESSERA_ALWAYS_INLINE constexpr std::uint32_t bits(index_t place) const noexcept {
    const auto low = static_cast<std::uint32_t>(place);
    const auto high = static_cast<std::uint32_t>(place >> 32);
    return scrambled(scrambled(low ^ first_) + (second_ ^ high * 0x9e3779b9u));
  }

 private:
  static constexpr std::uint64_t golden = 0x9e3779b97f4a7c15u;

  TESSERA_HD TESSERA_ALWAYS_INLINE static constexpr std::uint32_t scrambled(std::uint32_t x) noexcept {
    x ^= x >> 16;
    x *= 0x7feb352du;
    x ^= x >> 15;
    x *= 0x846ca68bu;
    return x ^ x >> 16;
  }

  std::uint32_t first_ = 0;
  std::uint32_t second_ = 0;
};

}  // namespace tessera::core
