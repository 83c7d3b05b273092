// A communicator whose sums have the same bits at every stage and world size: the fixed tree of design section 4.3, at
// the wire volume of a reduce-scatter.
#pragma once

#include <chrono>
#include <span>
#include <utility>

#include <tessera/comm/communicator.hpp>
#include <tessera/cuda/nccl/nccl.cuh>

namespace tessera {

/// What Comm is, but for its sums: every rank is sent the others' numbers and adds them up itself, in fp32 and rounded
/// once. Its reductions are staged in memory of world * part elements that the queue is lent.
template <class Comm>
class Ordered {
 public:
  using Executor = typename Comm::Executor;
  static constexpr bool ordered = true;

  template <class In, class Out>
  static constexpr bool stages = true;

  class Queue {
   public:
    using Event = typename Executor::Event;

    template <class In, class Out>
    Event reduce_scatter(std::span<const In> in, std::span<Out> out, index_t part, float scale, Tag tag,
                         const Event& after = {}) {
      return queue_.ordered_reduce_scatter(in, out, part, scale, tag, after);
    }

    template <class T>
    Event all_gather(std::span<const T> in, std::span<T> out, index_t part, Tag tag, const Event& after = {}) {
      return queue_.all_gather(in, out, part, tag, after);
    }

    template <class T>
    Event all_reduce(std::span<T> inout, Tag tag, const Event& after = {}) {
      if constexpr (std::integral<T>)
        return queue_.all_reduce(inout, tag, after);  // has no order
      else
        return queue_.ordered_all_reduce(inout, tag, after);
    }

    template <class T>
    Event all_to_all(std::span<const T> in, std::span<T> out, Tag tag, const Event& after = {}) {
      return queue_.all_to_all(in, out, tag, after);
    }

    template <class T>
    Event broadcast(std::span<T> inout, int root, Tag tag, const Event& after = {}) {
      return queue_.broadcast(inout, root, tag, after);
    }

    void lend(std::span<std::byte> staging) noexcept { queue_.lend(staging); }
    void join(cudaStream_t producer) { queue_.join(producer); }
    void drop() noexcept { queue_.drop(); }
    void leave() noexcept { communicator::leave(queue_); }

   private:
    friend Ordered;
    explicit Queue(Comm& comm, std::chrono::nanoseconds timeout) : queue_(comm.queue(timeout)) {}

    typename Comm::Queue queue_;
  };

  explicit Ordered(Comm comm) : comm_(std::move(comm)) {}

  int rank() const { return comm_.rank(); }
  int size() const { return comm_.size(); }
  Executor executor() const { return comm_.executor(); }
  Queue queue(std::chrono::nanoseconds timeout) { return Queue(comm_, timeout); }

 private:
  Comm comm_;
};

}  // namespace tessera
