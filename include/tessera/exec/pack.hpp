// Consecutive elements that a device's thread loads and stores by one access of 16 bytes: its compiler makes no vectors of
// its own.
#pragma once

#include <cstddef>
#include <cstdint>

#include <tessera/core/config.hpp>
#include <tessera/core/math.hpp>

namespace tessera::exec {

/// n elements, loaded and stored with 16-byte accesses, or with one access if they are smaller.
template <class T, int n>
struct alignas(min<std::size_t>(n * sizeof(T), 16)) Pack {
  T of[to_size(n)];
};

/// The number of elements in 16 bytes.
template <class T>
inline constexpr int pack_elements = 16 / sizeof(T);

/// Whether n elements at this address can be accessed as a Pack.
template <int n, class T>
TESSERA_HD TESSERA_ALWAYS_INLINE bool aligned(const T* at) noexcept {
  return reinterpret_cast<std::uintptr_t>(at) % alignof(Pack<T, n>) == 0;
}

}  // namespace tessera::exec
