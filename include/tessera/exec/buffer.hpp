// Host memory that is counted while it is allocated, so that tests can compare a plan with it to the byte.
#pragma once

#include <cstddef>
#include <cstring>
#include <memory>
#include <mutex>
#include <new>
#include <span>
#include <type_traits>
#include <utility>

#include <tessera/core/math.hpp>

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace tessera {

namespace exec {

/// The bytes that an executor's buffers hold now, and the peak. Thread-safe: buffers may be freed on another thread.
class ByteCount {
 public:
  void add(index_t bytes) noexcept {
    const std::scoped_lock lock(mutex_);
    held_ += bytes;
    peak_ = max(peak_, held_);
  }
  void remove(index_t bytes) noexcept {
    const std::scoped_lock lock(mutex_);
    held_ -= bytes;
  }
  index_t held() const noexcept {
    const std::scoped_lock lock(mutex_);
    return held_;
  }
  index_t peak() const noexcept {
    const std::scoped_lock lock(mutex_);
    return peak_;
  }

 private:
  mutable std::mutex mutex_;
  index_t held_ = 0;
  index_t peak_ = 0;
};

}  // namespace exec

/// Owns n elements, zero at first, aligned to 64 bytes. May outlive the executor that allocated it.
template <class T>
class HostBuffer {
  static_assert(std::is_trivially_copyable_v<T> && std::is_trivially_destructible_v<T>);

 public:
  HostBuffer() = default;

  /// Throws std::bad_alloc.
  HostBuffer(index_t n, std::shared_ptr<exec::ByteCount> count) : size_(n), count_(std::move(count)) {
    if (n > 0) memory_ = static_cast<T*>(zeroed(bytes()));
    count_->add(bytes());
  }

  HostBuffer(HostBuffer&& other) noexcept { swap(other); }
  HostBuffer& operator=(HostBuffer&& other) noexcept {
    HostBuffer(std::move(other)).swap(*this);
    return *this;
  }
  ~HostBuffer() {
    if (count_) count_->remove(bytes());
    ::operator delete(memory_, line);
  }

  std::span<T> span() noexcept { return {memory_, static_cast<std::size_t>(size_)}; }
  std::span<const T> span() const noexcept { return {memory_, static_cast<std::size_t>(size_)}; }
  index_t size() const noexcept { return size_; }

 private:
  static constexpr std::align_val_t line{64};
  static constexpr std::size_t huge_page = std::size_t{2} << 20;

  static void* zeroed(index_t bytes) {
    const auto size = static_cast<std::size_t>(bytes);
    void* memory = ::operator new(size, line);
#if defined(__linux__)
    // Systems that give huge pages only on request: without them a pass over several long arrays has many TLB misses.
    if (size >= 2 * huge_page) {
      const auto begin = (reinterpret_cast<std::uintptr_t>(memory) + huge_page - 1) / huge_page * huge_page;
      const auto end = (reinterpret_cast<std::uintptr_t>(memory) + size) / huge_page * huge_page;
      ::madvise(reinterpret_cast<void*>(begin), end - begin, MADV_HUGEPAGE);  // only advice: failure is harmless
    }
#endif
    return std::memset(memory, 0, size);
  }

  index_t bytes() const noexcept { return size_ * static_cast<index_t>(sizeof(T)); }

  void swap(HostBuffer& other) noexcept {
    std::swap(memory_, other.memory_);
    std::swap(size_, other.size_);
    std::swap(count_, other.count_);
  }

  T* memory_ = nullptr;
  index_t size_ = 0;
  std::shared_ptr<exec::ByteCount> count_;
};

}  // namespace tessera
