// What the engine, layouts and host communicators keep their own items in: the part of std::vector that they use, under
// the same names. A std::vector of each of their thirty item types costs a user 1.4 s of a first Sharded's 6.0 s at -O0
// (g++ 12; docs/design.md, section 6). What users hand in or get is a std::vector.
#pragma once

#include <cstddef>
#include <cstring>
#include <initializer_list>
#include <type_traits>
#include <utility>

#include <tessera/core/math.hpp>

namespace tessera::core {

/// Items back to back, growing at the end. T has a default and is moved by assignment, neither of which throws but for
/// memory. Usable in constant expressions. Throws std::bad_alloc, and is then as it was.
template <class T>
class List {
 public:
  constexpr List() = default;
  /// n default items.
  constexpr explicit List(std::size_t n) : items_(n != 0 ? new T[n]() : nullptr), size_(n), capacity_(n) {}
  constexpr List(std::size_t n, const T& item) : List(n) { fill(item); }
  constexpr List(std::initializer_list<T> items) : List(items.size()) {
    T* to = items_;
    for (const T& item : items) *to++ = item;
  }
  constexpr List(const List& other) : List(other.size_) {
    for (std::size_t i = 0; i < size_; ++i) items_[i] = other.items_[i];
  }
  constexpr List(List&& other) noexcept { swap(other); }
  /// Keeps its memory if that is large enough.
  constexpr List& operator=(const List& other) {
    if (this == &other) return *this;
    if (other.size_ > capacity_) return *this = List(other);
    while (size_ > other.size_) pop_back();
    size_ = other.size_;
    for (std::size_t i = 0; i < size_; ++i) items_[i] = other.items_[i];
    return *this;
  }
  constexpr List& operator=(List&& other) noexcept {
    List moved(std::move(other));
    swap(moved);
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
  constexpr T& operator[](std::size_t i) noexcept { return items_[i]; }
  constexpr const T& operator[](std::size_t i) const noexcept { return items_[i]; }
  constexpr T& front() noexcept { return items_[0]; }
  constexpr const T& front() const noexcept { return items_[0]; }
  constexpr T& back() noexcept { return items_[size_ - 1]; }
  constexpr const T& back() const noexcept { return items_[size_ - 1]; }

  constexpr void reserve(std::size_t capacity) {
    if (capacity <= capacity_) return;
    List larger;
    larger.items_ = new T[capacity];  // numbers without a value, which would cost a pass over the memory
    larger.capacity_ = capacity;
    // Not by a loop where memcpy does: at -O3 g++ 12 makes vector code of it that it then says may write too far.
    if (std::is_trivially_copyable_v<T> && !std::is_constant_evaluated() && size_ > 0)
      std::memcpy(static_cast<void*>(larger.items_), items_, size_ * sizeof(T));
    else
      for (std::size_t i = 0; i < size_; ++i) larger.items_[i] = std::move(items_[i]);
    larger.size_ = size_;
    swap(larger);
  }

  constexpr void push_back(T item) {
    if (size_ == capacity_) reserve(max<std::size_t>(4, 2 * capacity_));
    items_[size_++] = std::move(item);
  }

  constexpr void pop_back() noexcept { items_[--size_] = T{}; }

  /// New items are default ones.
  constexpr void resize(std::size_t n) {
    reserve(n);
    while (size_ > n) pop_back();
    while (size_ < n) items_[size_++] = T{};
  }

  /// Keeps the capacity.
  constexpr void clear() noexcept {
    while (size_ > 0) pop_back();
  }

  constexpr void insert(const T* position, T item) {
    const std::size_t at = static_cast<std::size_t>(position - items_);
    push_back(T{});
    for (std::size_t i = size_ - 1; i > at; --i) items_[i] = std::move(items_[i - 1]);
    items_[at] = std::move(item);
  }

  constexpr void erase(const T* first, const T* last) noexcept {
    if (first == last) return;
    T* to = items_ + (first - items_);
    for (T* from = items_ + (last - items_); from != end(); ++from, ++to) *to = std::move(*from);
    while (end() != to) pop_back();
  }

  constexpr bool operator==(const List& other) const {
    if (size_ != other.size_) return false;
    for (std::size_t i = 0; i < size_; ++i)
      if (!(items_[i] == other.items_[i])) return false;
    return true;
  }

  /// Every item becomes a copy of this one.
  constexpr void fill(const T& item) {
    for (std::size_t i = 0; i < size_; ++i) items_[i] = item;
  }

 private:
  constexpr void swap(List& other) noexcept {
    std::swap(items_, other.items_);
    std::swap(size_, other.size_);
    std::swap(capacity_, other.capacity_);
  }

  T* items_ = nullptr;
  std::size_t size_ = 0;
  std::size_t capacity_ = 0;
};

}  // namespace tessera::core
