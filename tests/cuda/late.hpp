// A communicator whose collectives begin late: what reads too early, or writes what they still read, shows.
#pragma once

#include <cuda_runtime.h>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <span>
#include <utility>
#include <vector>

#include <tessera/cuda/runtime/event.cuh>
#include <tessera/cuda/runtime/stream.cuh>

#include "cuda/ranks.hpp"

namespace tessera::testing {

/// What gathers sent, as it was when they were posted and when they had ended: in between nobody may write it.
class Sent {
 public:
  /// Of one gather, to be filled in by work on the device.
  struct Copies {
    std::byte* before;
    std::byte* after;
  };
  Copies of(std::size_t bytes) {
    gathers_.push_back({end_, bytes});
    std::byte* const room = room_.out().subspan(end_, 2 * bytes).data();
    end_ += 2 * bytes;
    return {room, room + bytes};
  }

  int gathers() const { return static_cast<int>(gathers_.size()); }
  /// How many of them sent other than what they were posted for. Waits for the device.
  int changed() const {
    REQUIRE(cudaDeviceSynchronize() == cudaSuccess);
    const std::vector<std::byte> all = room_.get();
    int count = 0;
    for (const auto& [begin, bytes] : gathers_) {
      const auto before = all.begin() + static_cast<std::ptrdiff_t>(begin);
      const auto after = before + static_cast<std::ptrdiff_t>(bytes);
      count += !std::equal(before, after, after);
    }
    return count;
  }

 private:
  struct Gather {
    std::size_t begin, bytes;
  };
  DeviceMemory<std::byte> room_{std::vector<std::byte>(std::size_t{1} << 18)};
  std::size_t end_ = 0;
  std::vector<Gather> gathers_;
};

template <class Comm>
class Late {
 public:
  using Executor = typename Comm::Executor;
  static constexpr bool ordered = Comm::ordered;

  class Queue {
   public:
    using Event = CudaEvent;

    Queue(Comm& comm, Sent* sent, std::chrono::nanoseconds timeout)
        : queue_(comm.queue(timeout)), sent_(sent), compute_(comm.executor().stream()) {}

    template <class In, class Out>
    Event reduce_scatter(std::span<const In> in, std::span<Out> out, index_t part, float scale, Tag tag,
                         const Event& after = {}) {
      return queue_.reduce_scatter(in, out, part, scale, tag, late(after));
    }
    template <class T>
    Event all_gather(std::span<const T> in, std::span<T> out, index_t part, Tag tag, const Event& after = {}) {
      if (!sent_) return queue_.all_gather(in, out, part, tag, late(after));
      const Sent::Copies copies = sent_->of(in.size_bytes());
      copy(copies.before, in, compute_);
      after.hold(line_.get());
      delay(line_.get());
      queue_.all_gather(in, out, part, tag, Event(events_.record(line_.get()))).hold(line_.get());
      copy(copies.after, in, line_.get());
      return Event(events_.record(line_.get()));
    }
    template <class T>
    Event all_reduce(std::span<T> inout, Tag tag, const Event& after = {}) {
      return queue_.all_reduce(inout, tag, late(after));
    }
    template <class T>
    Event all_to_all(std::span<const T> in, std::span<T> out, Tag tag, const Event& after = {}) {
      return queue_.all_to_all(in, out, tag, late(after));
    }
    template <class T>
    Event broadcast(std::span<T> inout, int root, Tag tag, const Event& after = {}) {
      return queue_.broadcast(inout, root, tag, late(after));
    }
    void join(cudaStream_t producer) { queue_.join(producer); }
    void drop() noexcept {
      cudaStreamSynchronize(line_.get());
      queue_.drop();
    }

   private:
    Event late(const Event& after) {
      if (sent_) return after;
      after.hold(line_.get());
      delay(line_.get());
      return Event(events_.record(line_.get()));
    }
    template <class T>
    static void copy(std::byte* to, std::span<const T> from, cudaStream_t stream) {
      REQUIRE(cudaMemcpyAsync(to, from.data(), from.size_bytes(), cudaMemcpyDeviceToDevice, stream) == cudaSuccess);
    }

    typename Comm::Queue queue_;
    Sent* sent_;
    cudaStream_t compute_;
    CudaStream line_;
    EventRing events_;
  };

  explicit Late(Comm comm) : Late(std::move(comm), nullptr) {}
  /// Gathers alone are late, so that all else overtakes them; `sent` has what they send.
  Late(Comm comm, Sent* sent) : comm_(std::move(comm)), sent_(sent) {}

  int rank() const { return comm_.rank(); }
  int size() const { return comm_.size(); }
  Executor executor() const { return comm_.executor(); }
  Queue queue(std::chrono::nanoseconds timeout) { return Queue(comm_, sent_, timeout); }

 private:
  Comm comm_;
  Sent* sent_;
};

}  // namespace tessera::testing
