// The one atomic operation that loop bodies need, the same on host and device.
#pragma once

#include <cstdint>

#include <tessera/core/config.hpp>

namespace tessera::core {

/// Sets *at to `to` if `to` is lower. Safe to call from any number of threads at once.
TESSERA_HD inline void lower_to(std::uint64_t* at, std::uint64_t to) noexcept {
#if TESSERA_DEVICE_CODE
  ::atomicMin(reinterpret_cast<unsigned long long*>(at), static_cast<unsigned long long>(to));
#else
  std::uint64_t now = __atomic_load_n(at, __ATOMIC_RELAXED);
  while (to < now && !__atomic_compare_exchange_n(at, &now, to, true, __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {
  }
#endif
}

}  // namespace tessera::core
