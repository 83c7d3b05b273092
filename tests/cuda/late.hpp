// A communicator whose collectives begin late: what reads too early, or writes what they still read, shows.
#pragma once

#include <cuda_runtime.h>

#include <span>
#include <utility>

#include <tessera/cuda/event.cuh>
#include <tessera/cuda/stream.cuh>

#include "cuda/ranks.hpp"

namespace tessera::testing {

template <class Comm>
class Late {
 public:
  using Executor = typename Comm::Executor;
  static constexpr bool ordered = Comm::ordered;

  class Queue {
   public:
    using Event = CudaEvent;

    Queue(Comm& comm, Duration timeout) : queue_(comm.queue(timeout)) {}

    template <class In, class Out>
    Event reduce_scatter(std::span<const In> in, std::span<Out> out, index_t part, Tag tag, const Event& after = {}) {
      return queue_.reduce_scatter(in, out, part, tag, late(after));
    }
    template <class T>
    Event all_gather(std::span<const T> in, std::span<T> out, index_t part, Tag tag, const Event& after = {}) {
      return queue_.all_gather(in, out, part, tag, late(after));
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
      after.hold(line_.get());
      delay(line_.get());
      return Event(events_.record(line_.get()));
    }

    typename Comm::Queue queue_;
    CudaStream line_;
    EventRing events_;
  };

  explicit Late(Comm comm) : comm_(std::move(comm)) {}

  int rank() const { return comm_.rank(); }
  int size() const { return comm_.size(); }
  Executor executor() const { return comm_.executor(); }
  Queue queue(Duration timeout) { return Queue(comm_, timeout); }

 private:
  Comm comm_;
};

}  // namespace tessera::testing
