// A communicator whose sums have the same bits at every stage and world size: the fixed tree of docs/design.md, section
// 4, point 3, with the wire volume of a reduce-scatter.
#pragma once

#include <chrono>
#include <span>
#include <utility>

#include <tessera/comm/decorators/decorator.hpp>
#include <tessera/cuda/nccl/nccl.cuh>

namespace tessera {

/// Comm with ordered sums: every rank receives the other ranks' data and adds them itself, in fp32, rounded once. This
/// needs a workspace. Comm's queues must support InFixedOrder calls (OrdersSums).
template <class Comm>
class Ordered : public CommunicatorDecorator<Comm> {
 public:
  static constexpr bool ordered = true;

  template <class In, class Out>
  static constexpr bool needs_workspace = true;

  class Queue : public QueueDecorator<typename Comm::Queue> {
    using Below = QueueDecorator<typename Comm::Queue>;

   public:
    using Event = typename Below::Event;

    /// Sums of integers pass through: they do not depend on the order.
    template <CollectiveCall Call>
    Event post(const Call& call, const Event& after = {}) {
      if constexpr (sums_in_some_order<Call> && !in_fixed_order<Call>)
        return Below::post(InFixedOrder<Call>(call), after);
      else
        return Below::post(call, after);
    }
    template <CollectiveCall Call>
    Event post(std::span<const Call> calls, const Event& after = {}) {
      if constexpr (sums_in_some_order<Call>)
        return communicator::post_each(*this, calls, after);
      else
        return Below::post(calls, after);
    }

   private:
    friend Ordered;
    explicit Queue(Comm& comm, std::chrono::nanoseconds timeout) : Below(comm, timeout) {}
  };

  explicit Ordered(Comm comm) : CommunicatorDecorator<Comm>(std::move(comm)) {}

  Queue queue(std::chrono::nanoseconds timeout) { return Queue(this->below(), timeout); }
};

}  // namespace tessera
