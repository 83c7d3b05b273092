// Values that are copied from the device to pinned memory while the host continues.
#pragma once

#include <cuda_runtime.h>

#include <cstddef>
#include <cstring>
#include <deque>
#include <memory>
#include <mutex>
#include <type_traits>
#include <utility>
#include <vector>

#include <tessera/core/math.hpp>
#include <tessera/cuda/runtime/device.cuh>
#include <tessera/cuda/runtime/error.cuh>
#include <tessera/cuda/runtime/stream.cuh>

namespace tessera {

namespace device {

/// Slots of pinned memory, each with an event. A slot is in use while a lease on it exists. 64 slots are allocated
/// once; more are allocated only if more are in use at a time.
class ReadBackSlots {
 public:
  static constexpr std::size_t bytes = 256;  // maximum size of a value

  struct Slot {
    void* memory = nullptr;
    cudaEvent_t event = nullptr;
    bool captured = false;  // written by replays of a graph: never used for another value
    long leases = 0;
  };

  /// On the current device. Throws CudaError.
  ReadBackSlots() { grow(); }
  ReadBackSlots(const ReadBackSlots&) = delete;
  ReadBackSlots& operator=(const ReadBackSlots&) = delete;
  ~ReadBackSlots() {
    const WhileCapturing allowed;
    for (Slot& slot : slots_)
      if (slot.event) cudaEventDestroy(slot.event);
    for (void* each : pinned_) cudaFreeHost(each);
  }

  Slot* lease() {
    const std::lock_guard lock(mutex_);
    if (free_.empty()) grow();
    Slot* const slot = free_.back();
    free_.pop_back();
    slot->leases = 1;
    return slot;
  }
  void share(Slot* slot) noexcept {
    const std::lock_guard lock(mutex_);
    ++slot->leases;
  }
  void give_back(Slot* slot) noexcept {
    const std::lock_guard lock(mutex_);
    if (--slot->leases == 0 && !slot->captured) free_.push_back(slot);
  }

 private:
  static constexpr std::size_t at_a_time = 64;

  void grow() {
    const WhileCapturing allowed;
    pinned_.push_back(nullptr);
    cuda_check(cudaHostAlloc(&pinned_.back(), at_a_time * bytes, cudaHostAllocDefault), "allocating pinned memory");
    free_.reserve(slots_.size() + at_a_time);  // so that give_back() allocates nothing
    for (std::size_t i = 0; i < at_a_time; ++i) {
      Slot& slot = slots_.emplace_back();
      slot.memory = static_cast<std::byte*>(pinned_.back()) + i * bytes;
      cuda_check(cudaEventCreateWithFlags(&slot.event, cudaEventDisableTiming), "creating a CUDA event");
      free_.push_back(&slot);
    }
  }

  std::mutex mutex_;
  std::deque<Slot> slots_;
  std::vector<void*> pinned_;
  std::vector<Slot*> free_;
};

}  // namespace device

/// A value that is being copied from the device. Copyable; may outlive the executor. Each executor has slots for 64 of
/// them at a time and allocates only if more exist.
///
/// If the stream is being captured, it has the value of the latest replay: wait for the stream on which the graph was
/// launched before calling get(). Destroy the graph before the executor.
template <class T>
class CudaReadBack {
  static_assert(std::is_trivially_copyable_v<T> && sizeof(T) <= device::ReadBackSlots::bytes);

 public:
  CudaReadBack() = default;

  /// Enqueues the copy of *from, which lies on the current device, on `stream`. Throws CudaError.
  CudaReadBack(const T* from, cudaStream_t stream, std::shared_ptr<device::ReadBackSlots> slots)
      : CudaReadBack(std::move(slots)) {
    slot_->captured = device::capture_of(stream) != 0;
    const T none{};
    if (slot_->captured) std::memcpy(slot_->memory, &none, sizeof(T));  // until the first replay
    cuda_check(cudaMemcpyAsync(slot_->memory, from, sizeof(T), cudaMemcpyDeviceToHost, stream), "reading back a value");
    if (!slot_->captured) cuda_check(cudaEventRecord(slot_->event, stream), "recording an event");
  }

  CudaReadBack(const CudaReadBack& other) noexcept : slots_(other.slots_), slot_(other.slot_) {
    if (slot_) slots_->share(slot_);
  }
  CudaReadBack(CudaReadBack&& other) noexcept
      : slots_(std::move(other.slots_)), slot_(std::exchange(other.slot_, nullptr)) {}
  CudaReadBack& operator=(CudaReadBack other) noexcept {
    std::swap(slots_, other.slots_);
    std::swap(slot_, other.slot_);
    return *this;
  }
  ~CudaReadBack() {
    if (slot_) slots_->give_back(slot_);
  }

  /// Whether get() would not block.
  bool arrived() const {
    if (!slot_ || slot_->captured) return true;
    const device::WhileCapturing allowed;
    const cudaError_t result = cudaEventQuery(slot_->event);
    if (result != cudaErrorNotReady) cuda_check(result, "querying a value that is read back");
    return result == cudaSuccess;
  }

  /// Blocks until the value has arrived; T{} for a default-constructed handle. Throws CudaError.
  T get() const {
    T value{};
    if (!slot_) return value;
    if (!slot_->captured) {
      const device::WhileCapturing allowed;
      cuda_check(cudaEventSynchronize(slot_->event), "waiting for a value read back");
    }
    std::memcpy(&value, slot_->memory, sizeof(T));
    return value;
  }

 private:
  explicit CudaReadBack(std::shared_ptr<device::ReadBackSlots> slots)
      : slots_(std::move(slots)), slot_(slots_->lease()) {}

  std::shared_ptr<device::ReadBackSlots> slots_;
  device::ReadBackSlots::Slot* slot_ = nullptr;
};

}  // namespace tessera
