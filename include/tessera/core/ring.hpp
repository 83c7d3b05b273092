// A ring of elements indexed by sequence number. It grows, never shrinks, and never moves an element in memory.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <utility>

#include <tessera/core/list.hpp>

namespace tessera::core {

/// Holds the elements from the oldest sequence number on; the caller knows which that is. A later number reuses an
/// element without resetting it, so steady state allocates nothing.
///
///     capacity 4     | 8 | 5 | 6 | 7 |     oldest 5, newest 8
template <class T>
class Ring {
 public:
  /// capacity: a power of two.
  explicit Ring(std::size_t capacity = 1) : slots_(capacity) {
    for (auto& slot : slots_) slot = std::make_unique<T>();
  }

  /// The element of `sequence`. Grows if the elements from `oldest` on would not fit.
  T& at(std::uint64_t sequence, std::uint64_t oldest) {
    while (sequence - oldest >= slots_.size()) grow(oldest);
    return (*this)[sequence];
  }
  T& operator[](std::uint64_t sequence) noexcept { return *slots_[sequence & (slots_.size() - 1)]; }

  /// The number of elements that fit without growing.
  std::size_t capacity() const noexcept { return slots_.size(); }

  template <class F>
  void for_each(const F& f) {
    for (auto& slot : slots_) f(*slot);
  }

 private:
  void grow(std::uint64_t oldest) {
    const std::size_t size = slots_.size();
    List<std::unique_ptr<T>> larger(2 * size);
    for (std::uint64_t s = oldest; s < oldest + size; ++s)
      larger[s & (2 * size - 1)] = std::move(slots_[s & (size - 1)]);
    for (auto& slot : larger)
      if (!slot) slot = std::make_unique<T>();
    slots_ = std::move(larger);
  }

  List<std::unique_ptr<T>> slots_;  // the size is a power of two
};

}  // namespace tessera::core
