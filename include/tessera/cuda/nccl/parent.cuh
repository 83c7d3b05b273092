// The communicator from which the queues' communicators are split: created from an id, or a framework's. No data is
// sent over it, so a failure of the others does not affect it.
#pragma once

#include <cuda_runtime.h>
#include <nccl.h>

#include <algorithm>
#include <chrono>
#include <future>
#include <memory>
#include <mutex>
#include <string>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include <tessera/core/clock.hpp>
#include <tessera/core/message.hpp>
#include <tessera/cuda/runtime/device.cuh>
#include <tessera/cuda/nccl/error.cuh>

namespace tessera::nccl {

/// A non-blocking communicator: calls that wait for other ranks return at once, and their state is polled.
inline ncclConfig_t never_blocking() {
  ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
  config.blocking = 0;
  return config;
}

inline ncclResult_t state_of(ncclComm_t comm) {
  ncclResult_t state = ncclSuccess;
  const ncclResult_t asked = ncclCommGetAsyncError(comm, &state);
  return failed(asked) ? asked : state;
}

/// Sleeps between two polls of a communicator's state.
inline void pause() noexcept { std::this_thread::sleep_for(std::chrono::microseconds(50)); }

/// Waits until the communicator's pending call is done; returns ncclInProgress at the deadline.
inline ncclResult_t settled(ncclComm_t comm, core::Clock::time_point deadline) {
  while (true) {
    const ncclResult_t state = state_of(comm);
    if (state != ncclInProgress || core::Clock::now() >= deadline) return state;
    pause();
  }
}

/// A communicator, and whether a CUDA graph may refer to it.
struct Handle {
  ncclComm_t comm = nullptr;
  bool captured = false;

  explicit operator bool() const noexcept { return comm != nullptr; }
};

// NCCL destroys a communicator only after the last graph that refers to it, and destroying or aborting one waits for
// that. So a separate thread does it. This thread waits 200 ms for it, long enough if no such graph is left. It does
// not wait longer, since the caller may destroy the graph after this call.
template <class End>
void end_with_graphs(End end) noexcept {
  try {
    std::packaged_task<void()> task(std::move(end));
    const std::future<void> over = task.get_future();
    std::thread(std::move(task)).detach();
    over.wait_for(std::chrono::milliseconds(200));
  } catch (const std::system_error&) {  // no thread available: the communicator is leaked
  }
}

/// The time limit for ncclCommFinalize, which waits for the other ranks to call it at about the same time. (If a rank
/// leaves without it, it may free memory that its neighbors still read.)
inline constexpr std::chrono::nanoseconds goodbye = std::chrono::seconds(5);

inline void end(Handle handle) noexcept {
  const ncclComm_t comm = handle.comm;
  if (!comm) return;
  if (handle.captured) return end_with_graphs([comm] { ncclCommDestroy(comm); });
  const bool said = !failed(ncclCommFinalize(comm)) && settled(comm, core::Clock::now() + goodbye) == ncclSuccess;
  static_cast<void>(said ? ncclCommDestroy(comm) : ncclCommAbort(comm));
}

/// Aborts all in one group: an abort may wait for the whole device, on which a collective of another one may hang.
inline void abort(std::vector<Handle> handles) {
  const bool captured = std::any_of(handles.begin(), handles.end(), [](const Handle& each) { return each.captured; });
  auto abort_all = [handles = std::move(handles)] {
    ncclGroupStart();
    for (const Handle& each : handles) ncclCommAbort(each.comm);
    ncclGroupEnd();
  };
  if (captured)
    end_with_graphs(std::move(abort_all));
  else
    abort_all();
}

/// Not thread-safe.
class Parent {
 public:
  /// Blocks until all ranks have arrived, each with its own device, the current one. Throws CommError.
  Parent(const ncclUniqueId& id, int rank, int world, std::chrono::nanoseconds timeout)
      : device_(device::current()), rank_(rank), world_(world), owned_(true) {
    ncclConfig_t config = never_blocking();
    ncclResult_t result = ncclCommInitRankConfig(&comm_, world, id, rank, &config);
    if (!failed(result)) result = settled(comm_, core::deadline_after(timeout));
    if (result == ncclSuccess) return;
    const std::string why = result == ncclInProgress
                                ? message({"not all ranks have arrived within ", core::seconds_of(timeout), " s"})
                                : reason(result);
    if (comm_) ncclCommAbort(comm_);
    throw CommError(message({"rank ", rank, " of ", world, " could not join the communicator: ", why}));
  }

  /// Uses a framework's communicator, which must outlive this and is only split. Throws CommError.
  explicit Parent(ncclComm_t existing) : comm_(existing), owned_(false) {
    check(ncclCommCuDevice(comm_, &device_), "getting a communicator's device");
    check(ncclCommUserRank(comm_, &rank_), "getting a communicator's rank");
    check(ncclCommCount(comm_, &world_), "getting a communicator's size");
  }

  Parent(const Parent&) = delete;
  Parent& operator=(const Parent&) = delete;
  ~Parent() {
    if (owned_) end({comm_});
  }

  int device() const noexcept { return device_; }
  int rank() const noexcept { return rank_; }
  int world() const noexcept { return world_; }

  /// A new communicator of the same ranks on the current device, with its own resources. All ranks split in the same
  /// order; blocks until all have. Throws CommError; after that, every call throws it.
  ncclComm_t split(std::chrono::nanoseconds timeout) {
    if (!failure_.empty()) throw CommError(failure_);
    const core::Clock::time_point deadline = core::deadline_after(timeout);
    auto child = std::make_unique<ncclComm_t>(nullptr);
    const ncclResult_t result =
        owned_ ? split(comm_, rank_, child.get(), deadline) : split_aside(child.get(), deadline);
    if (result == ncclSuccess) return *child;
    failure_ = message({"rank ", rank_, " of ", world_, " could not create a queue: ",
                        result == ncclInProgress
                            ? message({"not all ranks have created theirs within ", core::seconds_of(timeout), " s"})
                            : reason(result)});
    if (owned_) {
      ncclCommAbort(std::exchange(comm_, nullptr));
      if (*child) ncclCommAbort(*child);
    } else {
      keep(std::move(child));
    }
    throw CommError(failure_);
  }

 private:
  // Returns ncclInProgress if not all ranks have arrived by the deadline.
  static ncclResult_t split(ncclComm_t comm, int rank, ncclComm_t* child, core::Clock::time_point deadline) {
    ncclConfig_t config = never_blocking();
    ncclResult_t result = ncclCommSplit(comm, 0, rank, child, &config);
    if (!failed(result)) result = settled(comm, deadline);
    return result == ncclSuccess ? settled(*child, deadline) : result;
  }

  // A framework's communicator may be blocking, and then waits for the other ranks inside NCCL. So the call runs on a
  // separate thread, which is detached and left behind if they do not arrive.
  ncclResult_t split_aside(ncclComm_t* child, core::Clock::time_point deadline) const {
    std::promise<ncclResult_t> calling;
    std::future<ncclResult_t> called = calling.get_future();
    std::thread([comm = comm_, rank = rank_, device = device_, child, deadline,
                 calling = std::move(calling)]() mutable {
      const bool chosen = cudaSetDevice(device) == cudaSuccess;
      calling.set_value(chosen ? split(comm, rank, child, deadline) : ncclUnhandledCudaError);
    }).detach();
    while (called.wait_for(std::chrono::milliseconds(100)) != std::future_status::ready)
      if (core::Clock::now() >= deadline) return ncclInProgress;
    return called.get();
  }

  // Never freed: a pending call on the framework's communicator may still write there.
  static void keep(std::unique_ptr<ncclComm_t> child) {
    static std::mutex mutex;
    static auto& kept = *new std::vector<std::unique_ptr<ncclComm_t>>;
    const std::scoped_lock lock(mutex);
    kept.push_back(std::move(child));
  }

  ncclComm_t comm_ = nullptr;
  int device_ = 0;
  int rank_ = 0;
  int world_ = 0;
  bool owned_;
  std::string failure_;
};

}  // namespace tessera::nccl
