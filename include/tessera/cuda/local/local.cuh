// Ranks are threads of one process whose buffers are on one CUDA device, or on several with peer access. Collectives
// are kernels that read the peers' memory directly; sums are in the fixed order of docs/design.md, section 4, point 3.
// They cannot be captured in a CUDA graph: threads of the host check that all ranks have posted.
#pragma once

#include <cuda_runtime.h>

#include <chrono>
#include <cstdint>
#include <exception>
#include <limits>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include <tessera/comm/local/local.hpp>
#include <tessera/cuda/collectives/collectives.cuh>
#include <tessera/cuda/runtime/device.cuh>
#include <tessera/cuda/runtime/event.cuh>
#include <tessera/cuda/exec/executor.cuh>
#include <tessera/cuda/local/channel.cuh>

namespace tessera {

struct CudaLocalOptions {
  /// Rank r runs on devices[r mod size]. Empty: all devices.
  std::vector<int> devices;
};

/// One rank of a group that run_cuda_ranks() created. A handle: copies are the same rank.
class CudaLocal {
 public:
  using Executor = Cuda;
  static constexpr bool ordered = true;
  static constexpr bool has_groups = true;

  /// For run_cuda_ranks().
  CudaLocal(std::shared_ptr<local::DeviceGroup> group, int rank, Cuda executor)
      : group_(std::move(group)), rank_(rank), executor_(std::move(executor)) {}

  /// See CommunicationQueue. Posting enqueues: the last rank to post enqueues the collective for all ranks on a shared
  /// stream. Executor::wait(event) waits until the peers have posted, up to the timeout, and never for a device. If
  /// `after` belongs to another queue whose collective has not been posted by all ranks, post() waits until it is.
  /// `after`, like the buffers, must stay valid until the event or drop(). drop() and the destructor block until the
  /// stream has no work. One thread at a time uses a queue. Calls and waits throw CommError after a rank has failed,
  /// and AgreementError if ranks made different calls or if all ranks wait for calls that other ranks have not made
  /// (one thread per rank). Calls also throw CudaError, and UsageError if `after` was captured in a graph.
  class Queue final : public Completion {
   public:
    using Event = CudaEvent;

    Queue(const Queue&) = delete;
    Queue& operator=(const Queue&) = delete;
    ~Queue() {
      detach();
      group_->close(device_channel_);
    }

    template <CollectiveCall Call>
    Event post(const Call& call, const Event& after = {}) {
      check_call(call, group_->threads.world(), rank_);
      call_.set(call, local::device_task<Call>(), device_channel_.get());
      if (after.captured())
        throw UsageError(
            message({call_.call.text(), ": CudaLocal cannot be captured in a CUDA graph; CudaSelf and Nccl can"}));
      const cudaEvent_t done = done_.next();
      call_.events = {after.after_rendezvous(), done};
      return Event(done, this, group_->threads.post(*channel_, rank_, call_));
    }
    template <CollectiveCall Call>
    Event post(std::span<const Call> calls, const Event& after = {}) {
      return communicator::post_each(*this, calls, after);
    }

    void drop() noexcept {
      group_->threads.drop(*channel_, rank_, unwinding());
      device_channel_->synchronize();  // what all ranks joined is enqueued: wait for its use of this memory
    }
    void detach() noexcept {
      group_->threads.leave(*channel_, rank_, unwinding());
      device_channel_->synchronize();
    }

    /// Later collectives wait for the work so far on another stream of the rank's device.
    void join(cudaStream_t producer) {
      const device::Use use(group_->device_of(rank_));
      device_channel_->hold(CudaEvent(joined_.record(producer)));
    }

    /// done() and wait() refer to the rendezvous only, not to the device.
    bool done(std::uint64_t ticket) const noexcept override { return group_->threads.done(*channel_, ticket); }
    void wait(std::uint64_t ticket) override { group_->threads.wait(*channel_, rank_, ticket, timeout_); }

   private:
    friend CudaLocal;

    Queue(std::shared_ptr<local::DeviceGroup> group, int rank, std::chrono::nanoseconds timeout)
        : group_(std::move(group)),
          channel_(group_->threads.open(rank)),
          device_channel_(group_->open(rank)),
          rank_(rank),
          timeout_(timeout),
          done_(device_channel_->make_ring()),
          joined_(producers(group_->device_of(rank))) {}

    static EventRing producers(int device) {
      const device::Use use(device);
      return EventRing(1);
    }

    bool unwinding() const noexcept { return std::uncaught_exceptions() > exceptions_; }

    std::shared_ptr<local::DeviceGroup> group_;
    std::shared_ptr<local::Channel> channel_;
    std::shared_ptr<local::DeviceChannel> device_channel_;
    int rank_;
    std::chrono::nanoseconds timeout_;
    local::RankCall call_;
    EventRing done_;
    EventRing joined_;  // each event is waited for as soon as it is recorded
    int exceptions_ = std::uncaught_exceptions();
  };

  int rank() const noexcept { return rank_; }
  int size() const noexcept { return group_->threads.world(); }
  Cuda executor() const { return executor_; }
  Queue queue(std::chrono::nanoseconds timeout) const { return Queue(group_, rank_, timeout); }

  /// The same rank with the caller's compute stream, which is on the rank's device and outlives the result.
  CudaLocal on(cudaStream_t stream) const {
    const device::Use use(executor_.device());
    return CudaLocal(group_, rank_, Cuda(stream));
  }

 private:
  std::shared_ptr<local::DeviceGroup> group_;
  int rank_;
  Cuda executor_;
};

namespace local {

/// The device of each of n ranks. Throws CudaError, OptionError.
inline std::vector<int> devices_of_ranks(int n, const std::vector<int>& wanted) {
  int devices = 0;
  cuda_check(cudaGetDeviceCount(&devices), "counting CUDA devices");
  for (const int device : wanted)
    if (device < 0 || device >= devices)
      throw OptionError(message({"run_cuda_ranks: there is no CUDA device ", device, " among ", devices}));
  std::vector<int> of_ranks;
  for (int r = 0; r < n; ++r)
    of_ranks.push_back(wanted.empty() ? r % devices : wanted[static_cast<std::size_t>(r) % wanted.size()]);
  return of_ranks;
}

/// Enables access from each device to the memory of all others. Throws CudaError, OptionError.
inline void reach_peers(const std::vector<int>& devices) {
  for (const int device : devices)
    for (const int peer : devices) {
      if (device == peer) continue;
      int can = 0;
      cuda_check(cudaDeviceCanAccessPeer(&can, device, peer), "querying peer access between CUDA devices");
      if (!can)
        throw OptionError(message({"run_cuda_ranks: CUDA device ", device, " has no peer access to device ", peer,
                                   ": name devices that can in CudaLocalOptions::devices"}));
      const device::Use use(device);
      const cudaError_t result = cudaDeviceEnablePeerAccess(peer, 0);
      if (result == cudaErrorPeerAccessAlreadyEnabled)
        static_cast<void>(cudaGetLastError());
      else
        cuda_check(result, "letting a CUDA device use another's memory");
    }
}

}  // namespace local

/// Calls f(CudaLocal&) on n threads, one per rank, and joins them. Each thread has its rank's device as the current one
/// and an executor with its own stream. Throws as run_ranks(); also OptionError for more than 64 ranks, an unknown
/// device, or two devices without peer access (it names both); CudaError.
template <class F>
void run_cuda_ranks(int n, F f, const CudaLocalOptions& options = {}) {
  if (n < 1 || n > collectives::most_ranks)
    throw OptionError(message({"run_cuda_ranks: there must be 1 to ", collectives::most_ranks, " ranks, not ", n}));
  const auto group = std::make_shared<local::DeviceGroup>(local::devices_of_ranks(n, options.devices));
  local::reach_peers(group->devices());
  local::run(group->threads, [&](int rank) {
    cuda_check(cudaSetDevice(group->device_of(rank)), "choosing a CUDA device");
    CudaLocal comm(group, rank, Cuda());
    f(comm);
  });
}

}  // namespace tessera
