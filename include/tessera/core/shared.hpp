// A shared owner, for the few objects of this library that several handles keep alive. What std::shared_ptr is, without
// <memory>, which takes as long to compile as a third of this library.
#pragma once

#include <utility>

namespace tessera {

/// Keeps a T alive as long as any copy of it. Copies may live on different threads.
template <class T>
class Shared {
 public:
  Shared() = default;

  /// Throws what T's constructor throws, std::bad_alloc.
  template <class... Arguments>
  static Shared make(Arguments&&... arguments) {
    return Shared(new Counted{1, T(std::forward<Arguments>(arguments)...)});
  }

  Shared(const Shared& other) noexcept : counted_(other.counted_) {
    if (counted_) __atomic_fetch_add(&counted_->owners, 1, __ATOMIC_RELAXED);
  }
  Shared(Shared&& other) noexcept : counted_(std::exchange(other.counted_, nullptr)) {}
  Shared& operator=(Shared other) noexcept {
    std::swap(counted_, other.counted_);
    return *this;
  }
  ~Shared() {
    // What any owner did to the object happens before its end.
    if (counted_ && __atomic_fetch_sub(&counted_->owners, 1, __ATOMIC_ACQ_REL) == 1) delete counted_;
  }

  friend bool operator==(const Shared& a, const Shared& b) noexcept { return a.counted_ == b.counted_; }

  T* get() const noexcept { return counted_ ? &counted_->object : nullptr; }
  T& operator*() const noexcept { return counted_->object; }
  T* operator->() const noexcept { return &counted_->object; }
  explicit operator bool() const noexcept { return counted_ != nullptr; }

 private:
  struct Counted {
    long owners;
    T object;
  };

  explicit Shared(Counted* counted) noexcept : counted_(counted) {}

  Counted* counted_ = nullptr;
};

}  // namespace tessera
