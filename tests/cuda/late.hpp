// A communicator whose collectives begin late, so that reads that are too early, and writes to their input, have an
// effect.
#pragma once

#include <cuda_runtime.h>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <span>
#include <utility>
#include <vector>

#include <tessera/comm/decorators/decorator.hpp>
#include <tessera/cuda/runtime/event.cuh>
#include <tessera/cuda/runtime/stream.cuh>

#include "cuda/ranks.hpp"

namespace tessera::testing {

/// The data of gathers, copied when they were posted and when they ended. In between it must not change.
class Sent {
 public:
  /// The copies of one gather, made by work on the device.
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
  /// The number of gathers whose data changed. Waits for the device.
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
class Late : public CommunicatorDecorator<Comm> {
 public:
  class Queue : public QueueDecorator<typename Comm::Queue> {
    using Below = QueueDecorator<typename Comm::Queue>;

   public:
    using Event = CudaEvent;

    Queue(Comm& comm, Sent* sent, std::chrono::nanoseconds timeout)
        : Below(comm, timeout), sent_(sent), compute_(comm.executor().stream()) {}

    template <CollectiveCall Call>
    Event post(const Call& call, const Event& after = {}) {
      if constexpr (Call::kind == Collective::all_gather)
        if (sent_) return gather(call, after);
      return Below::post(call, late(after));
    }
    void drop() noexcept {
      cudaStreamSynchronize(stream_.get());
      Below::drop();
    }
    void detach() noexcept { drop(); }

   private:
    template <class T>
    Event gather(const AllGather<T>& call, const Event& after) {
      const std::span<const T> in = call.pieces.begin()->in;
      const Sent::Copies copies = sent_->of(in.size_bytes());
      copy(copies.before, in, compute_);
      after.hold(stream_.get());
      delay(stream_.get());
      Below::post(call, Event(events_.record(stream_.get()))).hold(stream_.get());
      copy(copies.after, in, stream_.get());
      return Event(events_.record(stream_.get()));
    }
    Event late(const Event& after) {
      if (sent_) return after;
      after.hold(stream_.get());
      delay(stream_.get());
      return Event(events_.record(stream_.get()));
    }
    template <class T>
    static void copy(std::byte* to, std::span<const T> from, cudaStream_t stream) {
      REQUIRE(cudaMemcpyAsync(to, from.data(), from.size_bytes(), cudaMemcpyDeviceToDevice, stream) == cudaSuccess);
    }

    Sent* sent_;
    cudaStream_t compute_;
    CudaStream stream_;
    EventRing events_;
  };

  explicit Late(Comm comm) : Late(std::move(comm), nullptr) {}
  /// Only gathers are late, so that all other work overtakes them. `sent` records their data.
  Late(Comm comm, Sent* sent) : CommunicatorDecorator<Comm>(std::move(comm)), sent_(sent) {}

  Queue queue(std::chrono::nanoseconds timeout) { return Queue(this->below(), sent_, timeout); }

 private:
  Sent* sent_;
};

}  // namespace tessera::testing
