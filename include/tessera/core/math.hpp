// The integers and the few functions of numbers that the library needs.
#pragma once

#include <cstddef>
#include <cstdint>

#include <tessera/core/config.hpp>

// std::sqrt must set errno, which keeps g++ and clang from vectorising any loop that calls it; declared const, the
// plain C function becomes one instruction under any flags (measured: bench/update).
extern "C" __attribute__((const)) float sqrtf(float) noexcept;
// What else the library needs of <cmath>, which takes a tenth of its time to compile.
extern "C" double sqrt(double) noexcept;
extern "C" double pow(double, double) noexcept;

namespace tessera {

/// A count of elements or bytes.
using index_t = std::int64_t;

/// The unit of alignment of the flat space, in elements: shard borders never cut a block.
inline constexpr index_t block = 64;

/// A count or an index, which is never negative, as the standard library's containers take it.
template <class Integer>
TESSERA_HD constexpr std::size_t to_size(Integer n) noexcept {
  return static_cast<std::size_t>(n);
}

/// The same bits as another type of the same size. (std::bit_cast does not run on a device.)
template <class To, class From>
TESSERA_HD TESSERA_ALWAYS_INLINE constexpr To bits_as(const From& from) noexcept {
  static_assert(sizeof(To) == sizeof(From));
  return __builtin_bit_cast(To, from);
}

TESSERA_HD constexpr index_t ceil_div(index_t n, index_t by) noexcept { return (n + by - 1) / by; }

TESSERA_HD constexpr index_t round_up(index_t n, index_t to) noexcept { return ceil_div(n, to) * to; }

template <class T>
TESSERA_HD constexpr T min(T a, T b) noexcept {
  return b < a ? b : a;
}

template <class T>
TESSERA_HD constexpr T max(T a, T b) noexcept {
  return a < b ? b : a;
}

namespace core {

/// How many of 0, 1, ..., n - 1 come before the first for which before(i) does not hold: binary search, in which it
/// holds for none behind that one.
template <class Before>
constexpr index_t partition_point(index_t n, Before before) {
  index_t low = 0;
  while (low < n) {
    const index_t middle = low + (n - low) / 2;
    if (before(middle))
      low = middle + 1;
    else
      n = middle;
  }
  return low;
}

}  // namespace core

TESSERA_HD constexpr bool is_finite(double x) noexcept { return x - x == 0; }

}  // namespace tessera
