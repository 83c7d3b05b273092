// Device memory that is counted while it is allocated, so that tests can compare a plan with it to the byte.
#pragma once

#include <cuda_runtime.h>

#include <cstddef>
#include <memory>
#include <span>
#include <type_traits>
#include <utility>

#include <tessera/core/math.hpp>
#include <tessera/cuda/runtime/device.cuh>
#include <tessera/cuda/runtime/error.cuh>
#include <tessera/cuda/runtime/memory.cuh>
#include <tessera/exec/buffer.hpp>

namespace tessera {

/// Owns n elements of device memory, aligned to 256 bytes. May outlive the executor that allocated it. The destructor
/// may wait for the device.
template <class T>
class CudaBuffer {
  static_assert(std::is_trivially_copyable_v<T> && std::is_trivially_destructible_v<T>);

 public:
  CudaBuffer() = default;

  /// Allocates on the current device. The elements are zero for later work on `stream`. Throws CudaError, and what
  /// `source` throws.
  CudaBuffer(index_t n, cudaStream_t stream, std::shared_ptr<DeviceMemory> source, std::shared_ptr<exec::ByteCount> count)
      : CudaBuffer(n, std::move(source), std::move(count)) {
    if (n > 0)
      cuda_check(cudaMemsetAsync(memory_, 0, static_cast<std::size_t>(bytes()), stream), "clearing device memory");
  }

  CudaBuffer(CudaBuffer&& other) noexcept { swap(other); }
  CudaBuffer& operator=(CudaBuffer&& other) noexcept {
    CudaBuffer(std::move(other)).swap(*this);
    return *this;
  }
  ~CudaBuffer() {
    if (!memory_) return;
    count_->remove(bytes());
    int before = 0;
    const bool elsewhere = cudaGetDevice(&before) == cudaSuccess && before != device_;
    if (elsewhere) cudaSetDevice(device_);
    source_->free(memory_, bytes());
    if (elsewhere) cudaSetDevice(before);
  }

  std::span<T> span() noexcept { return {memory_, static_cast<std::size_t>(size_)}; }
  std::span<const T> span() const noexcept { return {memory_, static_cast<std::size_t>(size_)}; }
  index_t size() const noexcept { return size_; }

 private:
  CudaBuffer(index_t n, std::shared_ptr<DeviceMemory> source, std::shared_ptr<exec::ByteCount> count)
      : size_(n), device_(device::current()), source_(std::move(source)), count_(std::move(count)) {
    if (n == 0) return;
    memory_ = static_cast<T*>(source_->allocate(bytes()));
    count_->add(bytes());
  }

  index_t bytes() const noexcept { return size_ * static_cast<index_t>(sizeof(T)); }

  void swap(CudaBuffer& other) noexcept {
    std::swap(memory_, other.memory_);
    std::swap(size_, other.size_);
    std::swap(device_, other.device_);
    std::swap(source_, other.source_);
    std::swap(count_, other.count_);
  }

  T* memory_ = nullptr;
  index_t size_ = 0;
  int device_ = 0;
  std::shared_ptr<DeviceMemory> source_;
  std::shared_ptr<exec::ByteCount> count_;
};

}  // namespace tessera
