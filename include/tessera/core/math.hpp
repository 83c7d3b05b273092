// The integer types and the small numeric functions of the library.
#pragma once

#include <cstddef>
#include <cstdint>

#include <tessera/core/config.hpp>

// std::sqrt must set errno, so g++ and clang do not vectorize a loop that calls it. The plain C function, declared
// const, becomes one instruction under any flags (measured: bench/update).
extern "C" __attribute__((const)) float sqrtf(float) noexcept;
// The other functions of <cmath> that the library needs. Including <cmath> would take a tenth of its compile time.
extern "C" double sqrt(double) noexcept;
extern "C" double pow(double, double) noexcept;

namespace tessera {

/// A count of elements or bytes, or an index.
using index_t = std::int64_t;

/// The alignment of shards in the flat space, in elements: a shard boundary never cuts a block.
inline constexpr index_t block = 64;

/// Converts a count or an index, which is never negative, to the size type of standard containers.
template <class Integer>
TESSERA_HD constexpr std::size_t to_size(Integer n) noexcept {
  return static_cast<std::size_t>(n);
}

/// Reinterprets the bits as another type of the same size. (std::bit_cast does not run on a device.)
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

/// The first i in [0, n) for which before(i) is false, or n: binary search. before() must be false for every index
/// after that one.
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
