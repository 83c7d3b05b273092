// The state of a queue of Nccl: its own communicator and stream, the collectives in flight, and the handling of their
// failures. Used by the thread that posts, the watchdog thread, and threads that wait.
//
//     epoch 0                                   epoch 1
//     [split] post post post ... failure, drop  [split] post ...       all ranks drop, then all ranks split again
#pragma once

#include <cuda_runtime.h>
#include <nccl.h>
#include <sched.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include <tessera/comm/local/call.hpp>
#include <tessera/core/clock.hpp>
#include <tessera/core/error.hpp>
#include <tessera/cuda/runtime/device.cuh>
#include <tessera/cuda/runtime/event.cuh>
#include <tessera/cuda/nccl/error.cuh>
#include <tessera/cuda/nccl/operations.cuh>
#include <tessera/cuda/nccl/parent.cuh>
#include <tessera/cuda/nccl/replays.cuh>
#include <tessera/cuda/runtime/stream.cuh>
#include <tessera/exec/event.hpp>

namespace tessera::nccl {

/// A failure ends the epoch: the communicator is aborted, so that the stream and threads that wait for it continue.
/// Every call and wait then throws CommError until drop().
class Channel final : public Completion {
 public:
  /// Blocks until all ranks have created theirs. Throws CommError, CudaError.
  Channel(std::shared_ptr<Parent> parent, std::chrono::nanoseconds timeout)
      : parent_(std::move(parent)), timeout_(timeout), handle_{parent_->split(timeout_)} {}
  Channel(const Channel&) = delete;
  Channel& operator=(const Channel&) = delete;
  ~Channel() {
    if (condemned_) nccl::abort({condemned_});  // not aborted by the watchdog yet
    drop();
    end(retired_);
  }

  /// Enqueues one collective after `after`: calls(turn) calls NCCL and launches kernels. Does not wait for the device.
  /// Waits for other ranks only while NCCL makes its first connections, or after drop().
  template <class Calls>
  CudaEvent post(const local::Call& call, const CudaEvent& after, const Calls& calls) {
    const device::Use use(parent_->device());
    open();
    after.hold(stream_.get());
    Turn turn{*this, call};
    if (device::capture_of(stream_.get()) != 0) {
      {
        const std::scoped_lock lock(mutex_);
        handle_.captured = true;
        replays_.begin(call, stream_.get());
      }
      calls(turn);
      replays_.end(stream_.get());
      return CudaEvent(captured_.record(stream_.get()), this, epoch_);
    }
    Operation* operation;
    {
      const std::scoped_lock lock(mutex_);
      operation = &operations_.begin(call);
    }
    cuda_check(cudaEventRecord(operation->began, stream_.get()), "recording an event");
    calls(turn);
    cuda_check(cudaEventRecord(operation->done, stream_.get()), "recording an event");
    const cudaEvent_t done = operation->done;
    {
      const std::scoped_lock lock(mutex_);
      operations_.posted();
    }
    return CudaEvent(done, this, epoch_);
  }

  /// Later collectives wait for the work so far on another stream of the device.
  void join(cudaStream_t producer) {
    const device::Use use(parent_->device());
    CudaEvent(joined_.record(producer)).hold(stream_.get());
  }

  /// Passed to the code of one collective.
  class Turn {
   public:
    /// Runs calls(comm, stream, error) as one group of NCCL calls. Throws CommError.
    template <class Calls>
    void nccl(const Calls& calls) {
      channel_.run(call_, calls);
    }
    cudaStream_t stream() const noexcept { return channel_.stream_.get(); }

   private:
    friend Channel;
    Turn(Channel& channel, const local::Call& call) : channel_(channel), call_(call) {}

    Channel& channel_;
    const local::Call& call_;
  };

  /// Ends the epoch. Waits until the posted collectives are done or time out.
  void drop() noexcept {
    if (cudaStreamCaptureStatus status;
        cudaStreamIsCapturing(stream_.get(), &status) == cudaSuccess && status == cudaStreamCaptureStatusNone)
      cudaStreamSynchronize(stream_.get());
    const std::scoped_lock lock(mutex_);
    for (Memory& each : memory_)  // the memory may be freed before the communicator is destroyed
      if (handle_ && each.handle) ncclCommDeregister(handle_.comm, std::exchange(each.handle, nullptr));
    end(std::exchange(retired_, std::exchange(handle_, {})));
    operations_.forget();
    failure_.clear();
    ++epoch_;
  }

  /// Called by the watchdog: ends the epoch if the communicator reports an error or the oldest collective has timed
  /// out.
  void look() noexcept {
    const std::scoped_lock lock(mutex_);
    if (!handle_) return;
    try {
      Operation* const oldest = operations_.oldest();
      if (const ncclResult_t state = state_of(handle_.comm); failed(state)) {
        abort((oldest ? oldest->text() : std::string("a queue without pending collectives")) + ": " + reason(state));
      } else if (const std::string replayed = replays_.overdue(timeout_); !replayed.empty()) {
        abort(late(replayed));
      } else if (oldest && !oldest->waited_for) {
        oldest->waited_for = Operations::happened(oldest->began);
        oldest->since = core::Clock::now();
      } else if (oldest && core::Clock::now() >= core::later(oldest->since, timeout_)) {
        abort(late(oldest->text()));
      }
    } catch (const CudaError& error) {
      abort(error.what());
    }
  }

  /// The reason why this channel's communicator must be aborted; empty if it need not be.
  std::string condemned_for() {
    const std::scoped_lock lock(mutex_);
    return condemned_ ? condemned_for_ : std::string();
  }
  /// Ends the epoch, if one is open, because another queue failed. Returns the communicator to abort, if there is one.
  Handle give_up(const std::string& why) {
    const std::scoped_lock lock(mutex_);
    if (handle_) {
      failure_ = why;
      condemned_ = std::exchange(handle_, {});
    }
    return std::exchange(condemned_, {});
  }

  std::chrono::nanoseconds timeout() const noexcept { return timeout_; }

  /// True: a collective counts as posted once it is on the stream.
  bool done(std::uint64_t) const noexcept override { return true; }
  /// Never blocks. Throws CommError if the ticket's epoch has failed.
  void wait(std::uint64_t ticket) override {
    const std::scoped_lock lock(mutex_);
    if (ticket == epoch_) throw_failure();
  }

  /// Registers memory with the communicator of this and every later epoch, until withdraw(). Throws CommError.
  void enlist(void* memory, std::size_t bytes) {
    const std::scoped_lock lock(mutex_);
    memory_.push_back({memory, bytes, nullptr});
    enlist(memory_.back());
  }
  void withdraw(void* memory) noexcept {
    const std::scoped_lock lock(mutex_);
    for (Memory& each : memory_)
      if (each.begin == memory) {
        if (handle_ && each.handle) ncclCommDeregister(handle_.comm, each.handle);
        each = memory_.back();
        return memory_.pop_back();
      }
  }

 private:
  struct Memory {
    void* begin;
    std::size_t bytes;
    void* handle;
  };

  // Begins the next epoch unless one is open.
  void open() {
    {
      const std::scoped_lock lock(mutex_);
      throw_failure();
      if (handle_) return;
    }
    // Ranks that have not dropped yet notice the drop by their timeout and arrive later by that time.
    constexpr std::chrono::nanoseconds most = std::chrono::nanoseconds::max() / 3;
    const ncclComm_t comm = parent_->split(3 * std::min(timeout_, most));
    const std::scoped_lock lock(mutex_);
    end(std::exchange(retired_, {}));  // all ranks have left it by now
    handle_ = {comm};
    for (Memory& each : memory_) enlist(each);
  }

  template <class Calls>
  void run(const local::Call& call, const Calls& calls) {
    const core::Clock::time_point deadline = core::deadline_after(timeout_);
    ncclResult_t result;
    {
      const std::scoped_lock lock(mutex_);
      throw_failure();
      FirstError error;
      error(ncclGroupStart());
      calls(handle_.comm, stream_.get(), error);
      error(ncclGroupEnd());
      result = failed(error.get()) ? error.get() : state_of(handle_.comm);
    }
    // Usually done as soon as an NCCL thread has launched it: yield first, since sleeping takes longer.
    const core::Clock::time_point soon = core::Clock::now() + std::chrono::microseconds(300);
    while (result == ncclInProgress && core::Clock::now() < deadline) {
      if (core::Clock::now() < soon)
        sched_yield();
      else
        pause();
      const std::scoped_lock lock(mutex_);
      throw_failure();
      result = state_of(handle_.comm);
    }
    if (result == ncclSuccess) return;
    const std::scoped_lock lock(mutex_);
    throw_failure();
    abort(result == ncclInProgress
              ? message({call.text(), ": not all ranks have connected after ", core::seconds_of(timeout_), " s"})
              : message({call.text(), ": ", reason(result)}));
    throw_failure();
  }

  void enlist(Memory& each) {
    each.handle = nullptr;
    if (handle_) check(ncclCommRegister(handle_.comm, each.begin, each.bytes, &each.handle), "registering memory");
  }

  void throw_failure() const {
    if (!failure_.empty()) throw CommError(failure_);
  }

  std::string late(const std::string& what) const {
    return message(
        {what, ", was not done after ", core::seconds_of(timeout_), " s: a rank is missing or made a different call"});
  }

  // Later calls and waits throw. The watchdog aborts the communicator together with those of the rank's other queues.
  void abort(const std::string& why) {
    failure_ = condemned_for_ = why + "; communicator aborted";
    condemned_ = std::exchange(handle_, {});
  }

  std::shared_ptr<Parent> parent_;
  std::chrono::nanoseconds timeout_;
  CudaStream stream_{StreamPriority::high};
  EventRing captured_;
  EventRing joined_{1};  // each event is waited for as soon as it is recorded
  std::mutex mutex_;     // guards the members below
  Replays replays_;
  Handle handle_;     // null: aborted or dropped
  Handle condemned_;  // to be aborted
  std::string condemned_for_;
  Handle retired_;  // of the previous epoch: slower ranks may still use it
  Operations operations_;
  std::string failure_;
  std::uint64_t epoch_ = 0;  // written only by the thread that posts
  std::vector<Memory> memory_;
};

}  // namespace tessera::nccl
