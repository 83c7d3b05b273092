// A queue by sequence number that grows, never shrinks and never moves what it holds.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <utility>

#include <tessera/core/list.hpp>

namespace tessera::core {

/// Holds the elements of the sequence numbers from some oldest one on; which that is, the caller knows. An element is
/// used again for a later number, as it was left: steady state allocates nothing.
///
///     capacity 4     | 8 | 5 | 6 | 7 |     oldest 5, newest 8
template <class T>
class Ring {
 public:
  /// capacity: a power of two.
  explicit Ring(std::size_t capacity = 1) : slots_(capacity) {
    for (auto& slot : slots_) slot = std::make_unique<T>();
  }

  /// The element of `sequence`, while those from `oldest` on are kept.
  T& at(std::uint64_t sequence, std::uint64_t oldest) {
    while (sequence - oldest >= slots_.size()) grow(oldest);
    return (*this)[sequence];
  }
  T& operator[](std::uint64_t sequence) noexcept { return *slots_[sequence & (slots_.size() - 1)]; }

  /// How many elements it holds without growing.
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

  List<std::unique_ptr<T>> slots_;  // a power of two
};

}  // namespace tessera::core
