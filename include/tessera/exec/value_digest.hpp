// A digest that tells arrays apart that differ in an element, in order or in length. It is a sum over blocks, so it
// does not depend on vector width or number of threads, and a device computes the same.
// Not cryptographic: an adversary can find two arrays with the same digest.
#pragma once

#include <array>
#include <cstdint>
#include <cstring>
#include <type_traits>

#include <tessera/core/config.hpp>
#include <tessera/core/math.hpp>
#include <tessera/core/random.hpp>
#include <tessera/exec/vectorize.hpp>

namespace tessera::value_digest {

/// A block is 256 words of 32 bits. A word is one float or two 16-bit floats, the first in the lower half. Each word of
/// the first half is paired with the word of the second half at the same index: both have a key added and are
/// multiplied.
inline constexpr index_t block_pairs = 128;
inline constexpr index_t block_bytes = 8 * block_pairs;
template <class T>
inline constexpr index_t block_elements = block_bytes / static_cast<index_t>(sizeof(T));

/// A pseudo-random key, the same on every machine.
TESSERA_HD constexpr std::uint32_t key(index_t word) noexcept {
  return static_cast<std::uint32_t>(core::mixed(static_cast<std::uint64_t>(word) * 0x9e3779b97f4a7c15u) >> 32);
}

/// The sums over one block, modulo 2^64 and 2^32. Different words give equal `products` with probability 2^-32: NH of
/// Black et al. 1999, "UMAC: Fast and Secure Message Authentication", theorem 4.2. They give equal `words` too only if
/// their differences cancel, for example when two words are swapped.
struct Block {
  std::uint64_t products = 0;
  std::uint32_t words = 0;

  TESSERA_HD TESSERA_ALWAYS_INLINE constexpr void add(std::uint32_t a, std::uint32_t b, std::uint32_t key_of_a,
                                                      std::uint32_t key_of_b) noexcept {
    products += std::uint64_t{a + key_of_a} * (b + key_of_b);
    words += a + b;
  }

  /// The contribution of this block to the digest, at index `index`.
  TESSERA_HD constexpr std::uint64_t part(index_t index) const noexcept {
    const std::uint64_t place = static_cast<std::uint64_t>(index) * 0x9e3779b97f4a7c15u;
    return core::mixed(products + core::mixed(place + words));
  }
};

/// The contribution of the number of values, n. It distinguishes padding from zeros.
TESSERA_HD constexpr std::uint64_t of_length(index_t n) noexcept { return core::mixed(~static_cast<std::uint64_t>(n)); }

/// A word of an array of n values; zero beyond its end.
template <class T>
TESSERA_HD TESSERA_ALWAYS_INLINE std::uint32_t word(const T* values, index_t n, index_t index) noexcept {
  if constexpr (sizeof(T) == 4) {
    return index < n ? bits_as<std::uint32_t>(values[index]) : 0;
  } else {
    const std::uint32_t low = 2 * index < n ? bits_as<std::uint16_t>(values[2 * index]) : 0;
    const std::uint32_t high = 2 * index + 1 < n ? bits_as<std::uint16_t>(values[2 * index + 1]) : 0;
    return low | high << 16;
  }
}

inline constexpr auto keys = [] {
  std::array<std::uint32_t, 2 * block_pairs> all{};
  for (std::size_t i = 0; i < all.size(); ++i) all[i] = key(static_cast<index_t>(i));
  return all;
}();

// Adds the contributions of `count` consecutive whole blocks, starting with block `index`.
struct Blocks {
  const unsigned char* bytes;
  index_t index;
  index_t count;
  std::uint64_t* sum;

  TESSERA_ALWAYS_INLINE void operator()() const noexcept {
    const std::uint32_t* const key = keys.data();
    for (index_t i = 0; i < count; ++i) {
      const unsigned char* const first = bytes + i * block_bytes;
      const unsigned char* const second = first + block_bytes / 2;
      for (index_t line = 0; line < block_bytes; line += 64) __builtin_prefetch(first + 2 * block_bytes + line);
      Block block;
      for (index_t j = 0; j < block_pairs; ++j) {
        std::uint32_t a, b;
        __builtin_memcpy(&a, first + 4 * j, 4);
        __builtin_memcpy(&b, second + 4 * j, 4);
        block.add(a, b, key[j], key[j + block_pairs]);
      }
      *sum += block.part(index + i);
    }
  }
};

/// The sum of the contributions of those blocks of n values that begin in [begin, end).
template <class T>
std::uint64_t of_range(const T* values, index_t n, index_t begin, index_t end) noexcept {
  static_assert(std::is_trivially_copyable_v<T> && (sizeof(T) == 4 || sizeof(T) == 2));
  constexpr index_t of_block = block_elements<T>;
  const index_t first = ceil_div(begin, of_block), last = ceil_div(end, of_block), whole = min(last, n / of_block);
  std::uint64_t sum = 0;
  exec::run_as(exec::best_isa(), Blocks{reinterpret_cast<const unsigned char*>(values + first * of_block), first, whole - first, &sum});
  if (first <= whole && whole < last) {  // the last, partial block begins in this range
    unsigned char padded[block_bytes] = {};
    std::memcpy(padded, values + whole * of_block, static_cast<std::size_t>(n - whole * of_block) * sizeof(T));
    exec::run_as(exec::best_isa(), Blocks{padded, whole, 1, &sum});
  }
  return sum;
}

}  // namespace tessera::value_digest
