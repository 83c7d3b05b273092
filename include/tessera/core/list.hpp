// The sequence that the library's own bookkeeping is kept in. std::vector does more, and each type that it holds costs
// eight times as long to compile; with some twenty of them that was a third of the whole library
// (bench/include_cost.py).
#pragma once

#include <concepts>
#include <cstddef>
#include <initializer_list>
#include <type_traits>
#include <utility>

#include <tessera/core/math.hpp>

namespace tessera {

/// Items back to back, growing at the end. T has a default, and is moved by assignment; List(n) alone asks only for the
/// default. Counts and indexes are of any integer type. Usable in constant expressions. Throws std::bad_alloc.
template <class T>
class List {
 public:
  constexpr List() = default;
  /// n default items.
  constexpr explicit List(std::integral auto n)
      : items_(n != 0 ? new T[to_size(n)]() : nullptr), size_(to_size(n)), room_(size_) {}
  constexpr List(std::initializer_list<T> items) {
    reserve(items.size());
    for (const T& item : items) push_back(item);
  }
  constexpr List(const List& other) {
    reserve(other.size_);
    for (const T& item : other) push_back(item);
  }
  constexpr List(List&& other) noexcept { swap(other); }
  constexpr List& operator=(List other) noexcept {
    swap(other);
    return *this;
  }
  constexpr ~List() { delete[] items_; }

  constexpr std::size_t size() const noexcept { return size_; }
  constexpr bool empty() const noexcept { return size_ == 0; }
  constexpr T* data() noexcept { return items_; }
  constexpr const T* data() const noexcept { return items_; }
  constexpr T* begin() noexcept { return items_; }
  constexpr T* end() noexcept { return items_ + size_; }
  constexpr const T* begin() const noexcept { return items_; }
  constexpr const T* end() const noexcept { return items_ + size_; }
  constexpr T& operator[](std::integral auto i) noexcept { return items_[i]; }
  constexpr const T& operator[](std::integral auto i) const noexcept { return items_[i]; }
  constexpr T& back() noexcept { return items_[size_ - 1]; }
  constexpr const T& back() const noexcept { return items_[size_ - 1]; }

  constexpr void reserve(std::size_t room) {
    if (room <= room_) return;
    T* const larger = new T[room];  // plain numbers without a value, which would cost a pass over the room
    // Not by a loop where memcpy does: at -O3 g++ 12 makes vector code of it that it then says may write too far.
    if (std::is_trivially_copyable_v<T> && !std::is_constant_evaluated() && size_ > 0)
      __builtin_memcpy(static_cast<void*>(larger), items_, size_ * sizeof(T));
    else
      for (std::size_t i = 0; i < size_; ++i) larger[i] = std::move(items_[i]);
    delete[] items_;
    items_ = larger;
    room_ = room;
  }

  constexpr void push_back(T item) {
    if (size_ == room_) reserve(max<std::size_t>(4, 2 * room_));
    items_[size_++] = std::move(item);
  }

  /// Puts an item where the i-th was, before it.
  constexpr void insert(std::size_t at, T item) {
    push_back(T{});
    for (std::size_t i = size_ - 1; i > at; --i) items_[i] = std::move(items_[i - 1]);
    items_[at] = std::move(item);
  }

  constexpr void erase(std::size_t at) {
    for (std::size_t i = at + 1; i < size_; ++i) items_[i - 1] = std::move(items_[i]);
    items_[--size_] = T{};
  }

  /// Keeps the room.
  constexpr void clear() {
    while (size_ > 0) items_[--size_] = T{};
  }

  /// Every item becomes a copy of this one.
  constexpr void fill(const T& item) {
    for (T& each : *this) each = item;
  }

 private:
  constexpr void swap(List& other) noexcept {
    std::swap(items_, other.items_);
    std::swap(size_, other.size_);
    std::swap(room_, other.room_);
  }

  T* items_ = nullptr;
  std::size_t size_ = 0;
  std::size_t room_ = 0;
};

}  // namespace tessera
