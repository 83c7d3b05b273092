// Groups of elements that a device loop (cuda/exec/for_each.cuh) loads and stores with 16-byte accesses, because the
// device compiler does not vectorize.
#pragma once

#include <cstddef>
#include <cstdint>

#include <tessera/core/config.hpp>
#include <tessera/core/math.hpp>
#include <tessera/exec/pack.hpp>

namespace tessera {

namespace packs {

using exec::aligned;
using exec::Pack;

/// Elements begin .. begin + n - 1 of arrays that have elements 0 .. end - 1. at_once: all exist and are aligned in
/// every array. Elements outside the array are read as zero.
template <int n>
struct Group {
  index_t begin;
  index_t end;
  bool at_once;

  template <class T>
  TESSERA_HD TESSERA_ALWAYS_INLINE Pack<T, n> load(const T* from) const noexcept {
    if constexpr (sizeof(T) == 2) {
      return bits_as<Pack<T, n>>(load_pairs(from));
    } else {
      if (at_once) return *reinterpret_cast<const Pack<T, n>*>(from + begin);
      Pack<T, n> pack{};
      TESSERA_UNROLL
      for (int k = 0; k < n; ++k)
        if (has(k)) pack.of[k] = from[begin + k];
      return pack;
    }
  }

  template <class T>
  TESSERA_HD TESSERA_ALWAYS_INLINE void store(T* to, const Pack<T, n>& pack) const noexcept {
    if (at_once) {
      *reinterpret_cast<Pack<T, n>*>(to + begin) = pack;
    } else {
      TESSERA_UNROLL
      for (int k = 0; k < n; ++k)
        if (has(k)) to[begin + k] = pack.of[k];
    }
  }

  TESSERA_HD TESSERA_ALWAYS_INLINE bool has(int k) const noexcept { return 0 <= begin + k && begin + k < end; }

 private:
  // Combines 16-bit elements into words. Then both branches yield the words that were loaded. Otherwise the compiler
  // unpacks them inside the branch, and the device waits for one array before it loads the next.
  template <class T>
  TESSERA_HD TESSERA_ALWAYS_INLINE Pack<std::uint32_t, n / 2> load_pairs(const T* from) const noexcept {
    Pack<std::uint32_t, n / 2> pairs{};
    if (at_once) {
      __builtin_memcpy(&pairs, __builtin_assume_aligned(from + begin, alignof(Pack<T, n>)), sizeof pairs);
      return pairs;
    }
    TESSERA_UNROLL
    for (int k = 0; k < n; ++k)
      if (has(k)) pairs.of[k / 2] |= std::uint32_t{bits_as<std::uint16_t>(from[begin + k])} << (16 * (k % 2));
    return pairs;
  }
};

}  // namespace packs

}  // namespace tessera
