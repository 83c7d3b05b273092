// The communicator of one rank on a CUDA device. It sends nothing. Copies and rounding run on the queue's own stream
// and can be captured in a CUDA graph with other work.
#pragma once

#include <cuda_runtime.h>

#include <chrono>
#include <span>
#include <type_traits>
#include <utility>

#include <tessera/comm/communicator.hpp>
#include <tessera/cuda/collectives/collectives.cuh>
#include <tessera/cuda/runtime/device.cuh>
#include <tessera/cuda/runtime/event.cuh>
#include <tessera/cuda/exec/executor.cuh>
#include <tessera/cuda/runtime/stream.cuh>

namespace tessera {

class CudaSelf {
 public:
  using Executor = Cuda;
  static constexpr bool ordered = true;
  static constexpr bool has_groups = true;

  /// See CommunicationQueue. Only drop() and the destructor block.
  class Queue {
   public:
    using Event = CudaEvent;

    Queue(const Queue&) = delete;
    Queue& operator=(const Queue&) = delete;
    ~Queue() { drop(); }

    template <CollectiveCall Call>
    Event post(const Call& call, const Event& after = {}) {
      check_call(call, 1, 0);
      return behind(after, [&] {
        if constexpr (Call::kind == Collective::reduce_scatter)
          sum(call);
        else
          for (const auto& piece : call.pieces) copy(piece);
      });
    }
    template <CollectiveCall Call>
    Event post(std::span<const Call> calls, const Event& after = {}) {
      return communicator::post_each(*this, calls, after);
    }

    /// Later collectives wait for the work so far on another stream of the device.
    void join(cudaStream_t producer) {
      const device::Use use(device_);
      Event(joined_.record(producer)).hold(stream_.get());
    }

    /// Blocks until the stream has no work.
    void drop() noexcept { cudaStreamSynchronize(stream_.get()); }

   private:
    friend CudaSelf;

    explicit Queue(int device) : Queue(device, device::Use(device)) {}
    Queue(int device, const device::Use&) : device_(device), multiprocessors_(device::multiprocessors(device)) {}

    collectives::Share share() const noexcept {
      static constexpr int rank = 0;
      return {.stream = stream_.get(), .multiprocessors = multiprocessors_, .ranks = {&rank, 1}};
    }

    template <class In, class Out>
    void sum(const ReduceScatter<In, Out>& call) {
      const bool as_it_is = call.scale == 1 && call.carry.before == 0 && call.carry.last && std::is_same_v<In, Out>;
      for (const auto& piece : call.pieces) {
        const void* const in = piece.in.data();
        if (as_it_is && in == piece.out.data()) continue;
        const local::Ends ends{piece.in.data(), piece.out.data(), piece.sums};
        collectives::reduce_scatter<In, Out>(
            {.elements = std::ssize(piece.in), .part = piece.part, .scale = call.scale, .carry = call.carry}, {&ends, 1},
            share());
      }
    }

    template <class T>
    void copy(const Piece<T>& piece) {
      const auto to = piece.out;
      if (to.empty() || to.data() == piece.in.data()) return;
      cuda_check(cudaMemcpyAsync(to.data(), piece.in.data(), to.size_bytes(), cudaMemcpyDeviceToDevice, stream_.get()),
                 "copying a rank's slice");
    }

    // The stream waits for `after`, and the event comes after all earlier work of the queue, also if the call enqueues
    // nothing: an earlier collective may have written the same memory.
    template <class Work>
    Event behind(const Event& after, const Work& work) {
      const device::Use use(device_);
      after.hold(stream_.get());
      work();
      return Event(events_.record(stream_.get()));
    }

    int device_;
    int multiprocessors_;
    CudaStream stream_{StreamPriority::high};
    EventRing events_;
    EventRing joined_{1};  // each event is waited for as soon as it is recorded
  };

  /// Creates a stream on the current device. Throws CudaError.
  CudaSelf() : CudaSelf(Cuda()) {}
  /// Uses the caller's compute stream of the current device, which must outlive this.
  explicit CudaSelf(cudaStream_t stream) : CudaSelf(Cuda(stream)) {}
  explicit CudaSelf(Cuda executor) : executor_(std::move(executor)) {}

  int rank() const noexcept { return 0; }
  int size() const noexcept { return 1; }
  Cuda executor() const { return executor_; }
  Queue queue(std::chrono::nanoseconds) const { return Queue(executor_.device()); }

 private:
  Cuda executor_;
};

}  // namespace tessera
