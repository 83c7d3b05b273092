// What the queues of one Nccl share: the parent communicator, a watchdog thread, and registered memory.
#pragma once

#include <cuda_runtime.h>
#include <nccl.h>

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <optional>
#include <thread>
#include <utility>
#include <vector>

#include <tessera/cuda/runtime/device.cuh>
#include <tessera/cuda/runtime/memory.cuh>
#include <tessera/cuda/nccl/channel.cuh>
#include <tessera/cuda/nccl/parent.cuh>

namespace tessera::nccl {

/// Checks all channels at intervals, on its own thread. The destructor joins the thread.
class Watchdog {
 public:
  /// device: of the channels. Throws std::system_error if the system cannot start a thread.
  explicit Watchdog(int device) : thread_([this, device] { watch(device); }) {}
  Watchdog(const Watchdog&) = delete;
  Watchdog& operator=(const Watchdog&) = delete;
  ~Watchdog() {
    {
      const std::scoped_lock lock(mutex_);
      stopping_ = true;
      news_.notify_all();
    }
    thread_.join();
  }

  void add(Channel& channel) {
    const std::scoped_lock lock(mutex_);
    channels_.push_back(&channel);
    news_.notify_all();
  }
  /// When it returns, the watchdog no longer uses the channel.
  void remove(Channel& channel) noexcept {
    const std::scoped_lock lock(mutex_);
    std::erase(channels_, &channel);
  }

  template <class F>
  void for_each_channel(const F& f) {
    const std::scoped_lock lock(mutex_);
    for (Channel* const channel : channels_) f(*channel);
  }

 private:
  // The interval between checks: the delay with which an error is noticed, and at most a quarter of the timeout.
  static std::chrono::nanoseconds between_looks(std::chrono::nanoseconds timeout) noexcept {
    return std::min<std::chrono::nanoseconds>(timeout / 4, std::chrono::milliseconds(100));
  }

  void watch(int device) {
    static_cast<void>(cudaSetDevice(device));
    std::unique_lock lock(mutex_);
    while (!stopping_) {
      std::chrono::nanoseconds rest = std::chrono::hours(1);  // add() wakes the thread earlier
      for (Channel* const channel : channels_) {
        channel->look();
        rest = std::min(rest, between_looks(channel->timeout()));
      }
      bury();
      news_.wait_for(lock, rest);
    }
  }

  // Aborts the communicators of all of the rank's queues together: see abort().
  void bury() {
    std::string why;
    for (Channel* const channel : channels_)
      if (why.empty()) why = channel->condemned_for();
    if (why.empty()) return;
    std::vector<Handle> dead;
    for (Channel* const channel : channels_)
      if (const Handle handle = channel->give_up(why)) dead.push_back(handle);
    abort(std::move(dead));
  }

  std::mutex mutex_;
  std::condition_variable news_;
  bool stopping_ = false;
  std::vector<Channel*> channels_;
  std::thread thread_;
};

class Group {
 public:
  template <class... Arguments>
  explicit Group(const Arguments&... arguments) : parent_(std::make_shared<Parent>(arguments...)) {
    watchdog_.emplace(parent_->device());
  }

  int device() const noexcept { return parent_->device(); }
  int rank() const noexcept { return parent_->rank(); }
  int world() const noexcept { return parent_->world(); }

  /// The compute stream of an Nccl without a stream of the caller's.
  cudaStream_t own_stream() {
    if (!own_stream_) own_stream_.emplace();
    return own_stream_->get();
  }

  std::shared_ptr<Channel> open(std::chrono::nanoseconds timeout) {
    const device::Use use(device());
    const auto channel = std::make_shared<Channel>(parent_, timeout);
    const std::scoped_lock lock(mutex_);
    for (const Memory& each : memory_) channel->enlist(each.begin, each.bytes);
    watchdog_->add(*channel);
    return channel;
  }
  /// Call it before the channel's last owner releases it. drop() may wait for a collective, which only the watchdog can
  /// abort.
  void close(Channel& channel) noexcept {
    channel.drop();
    watchdog_->remove(channel);
  }

  /// Registers memory until withdraw(), also if it throws. Throws CommError.
  void enlist(void* memory, std::size_t bytes) {
    const std::scoped_lock lock(mutex_);
    memory_.push_back({memory, bytes});
    watchdog_->for_each_channel([&](Channel& channel) { channel.enlist(memory, bytes); });
  }
  void withdraw(void* memory) noexcept {
    const std::scoped_lock lock(mutex_);
    std::erase_if(memory_, [&](const Memory& each) { return each.begin == memory; });
    watchdog_->for_each_channel([&](Channel& channel) { channel.withdraw(memory); });
  }

 private:
  struct Memory {
    void* begin;
    std::size_t bytes;
  };

  std::shared_ptr<Parent> parent_;
  std::optional<CudaStream> own_stream_;
  std::mutex mutex_;
  std::vector<Memory> memory_;
  std::optional<Watchdog> watchdog_;
};

/// Memory from ncclMemAlloc that is registered with every queue's communicator, so that NCCL needs no copies where the
/// hardware allows. Small buffers are plain device memory, the same ones on every rank: NCCL does not specify
/// collectives with registered memory on some ranks and plain memory on others.
class RegisteredMemory final : public DeviceMemory {
 public:
  explicit RegisteredMemory(std::shared_ptr<Group> group) : group_(std::move(group)) {}

  /// Also throws CommError.
  void* allocate(index_t bytes) override {
    if (bytes < granule) return plain_.allocate(bytes);
    const device::WhileCapturing allowed;
    void* memory = nullptr;
    check(ncclMemAlloc(&memory, static_cast<std::size_t>(bytes)),
          "allocating memory by ncclMemAlloc (with NCCL_CUMEM_ENABLE=0 it calls cudaMalloc)");
    try {
      group_->enlist(memory, static_cast<std::size_t>(bytes));
    } catch (...) {
      free(memory, bytes);
      throw;
    }
    return memory;
  }

  void free(void* memory, index_t bytes) noexcept override {
    if (bytes < granule) return plain_.free(memory, bytes);
    const device::WhileCapturing allowed;
    cudaDeviceSynchronize();  // ncclMemFree unmaps the memory without synchronizing
    group_->withdraw(memory);
    ncclMemFree(memory);
  }

 private:
  /// ncclMemAlloc rounds up to pages of this size: for smaller buffers most of the page would be wasted.
  static constexpr index_t granule = index_t{2} << 20;

  std::shared_ptr<Group> group_;
  PlainDeviceMemory plain_;
};

}  // namespace tessera::nccl
