// What a communicator is: its ranks, its executor, and queues of collectives that run asynchronously.
// docs/communicators.md is the page from which one can be written.
#pragma once

#include <chrono>
#include <concepts>
#include <cstdint>
#include <span>

#include <tessera/comm/call.hpp>
#include <tessera/exec/executor.hpp>
#include <tessera/timeline/timeline.hpp>

namespace tessera {

/// Q can be given such a call, or a span of them.
template <class Q, class Call>
concept Posts = requires(Q& queue, const Call& call, const typename Q::Event& after) {
  { queue.post(call, after) } -> std::same_as<typename Q::Event>;
};

/// A queue of collectives. post() enqueues and returns at once; its event is this rank's: what the call reads may be
/// written, and what it writes may be read. Buffers stay alive until the event or drop(). Errors come from the event's
/// wait() (CommError: a rank failed, left, dropped or did not come in time; AgreementError: ranks call differently).
///
///   post(call, after)   the call (comm/call.hpp) begins after the event `after`, and after the one before
///   drop()   leaves the current epoch: what all ranks have joined is waited for, all else is withdrawn and never
///            touches memory again. Ranks that do not drop learn of it from their waits, until they drop too. The k-th
///            drop of every rank ends the k-th epoch. Does not throw.
///
/// Its destructor drops and leaves for good (DetachableQueue). The calls are those that the library makes: a queue may
/// have others, such as AllToAll, Broadcast and AllReduce of numbers, for who asks for Posts<Queue, ...>.
template <class Q>
concept CommunicationQueue =
    Posts<Q, ReduceScatter<float, float>> && Posts<Q, ReduceScatter<bfloat16, bfloat16>> &&
    Posts<Q, ReduceScatter<bfloat16, float>> && Posts<Q, ReduceScatter<float16, float16>> &&
    Posts<Q, ReduceScatter<float16, float>> && Posts<Q, AllGather<float>> && Posts<Q, AllGather<bfloat16>> &&
    Posts<Q, AllGather<float16>> && Posts<Q, AllGather<std::uint64_t>> && Posts<Q, AllReduce<std::uint64_t>> &&
    requires(Q& queue) {
      { queue.drop() } noexcept;
    };

// --- what a queue may have besides ----------------------------------------------------------------------------------

/// post(calls, after): several calls of one type, in their order. The event is that of all of them. A library that can
/// begin them together does; each needs a workspace of its own, if any.
template <class Q, class Call>
concept GroupingQueue = Posts<Q, std::span<const Call>>;

/// detach(): drop() for good, of a rank that has ended as it should. Those that still wait for it are told that it has
/// left, not that it dropped a pass. Nothing is posted afterwards; twice is once.
template <class Q>
concept DetachableQueue = requires(Q& queue) {
  { queue.detach() } noexcept;
};

/// time_on(tracks): from then on it writes when its collectives ran and how long this rank waited for them.
template <class Q>
concept TimedQueue = requires(Q& queue, const QueueTracks& tracks) { queue.time_on(tracks); };

/// join(producer): what is posted from now on runs after what the stream was given so far.
template <class Q, class Stream>
concept StreamJoiningQueue = requires(Q& queue, const Stream& producer) { queue.join(producer); };

/// Its sums have no order, but those of InFixedOrder<Call> have.
template <class Q, class Call>
concept OrdersSums = Posts<Q, InFixedOrder<Call>>;

namespace communicator {

/// Posts the calls one after another. The event is that of all.
template <class Queue, class Call>
typename Queue::Event post_each(Queue& queue, std::span<const Call> calls, const typename Queue::Event& after) {
  typename Queue::Event last = after;
  for (const Call& call : calls) last = queue.post(call, after);
  return last;
}

/// Posts them as one where the queue can.
template <class Queue, class Call>
typename Queue::Event post(Queue& queue, std::span<const Call> calls, const typename Queue::Event& after = {}) {
  if constexpr (GroupingQueue<Queue, Call>)
    return queue.post(calls, after);
  else
    return post_each(queue, calls, after);
}

/// Leaves the queue for good; one that cannot tell it from a drop drops.
template <class Queue>
void detach(Queue& queue) noexcept {
  if constexpr (DetachableQueue<Queue>)
    queue.detach();
  else
    queue.drop();
}

}  // namespace communicator

/// Whether a ReduceScatter<In, Out> needs a workspace of Comm: it then has the member template needs_workspace.
template <class Comm, class In, class Out>
constexpr bool needs_workspace() {
  if constexpr (requires { Comm::template needs_workspace<In, Out>; })
    return Comm::template needs_workspace<In, Out>;
  else
    return false;
}

/// A handle of one rank. `ordered`: sums are in the fixed tree of design section 4.3. queue(timeout): every rank makes
/// its queues in the same order; two queues progress independently of each other. timeout: how long a wait lasts before
/// CommError says who is missing.
template <class C>
concept Communicator =
    std::copy_constructible<C> && Executor<typename C::Executor> && CommunicationQueue<typename C::Queue> &&
    std::same_as<typename C::Queue::Event, typename C::Executor::Event> &&
    requires(const C constant, C c, std::chrono::nanoseconds timeout) {
      { C::ordered } -> std::convertible_to<bool>;
      typename std::bool_constant<C::ordered>;
      { constant.rank() } -> std::same_as<int>;
      { constant.size() } -> std::same_as<int>;
      { constant.executor() } -> std::same_as<typename C::Executor>;
      { c.queue(timeout) } -> std::same_as<typename C::Queue>;
    };

/// Takes the calls that hybrid sharding makes: AllGather over groups and over peers, and ReduceScatter over a world in
/// groups. All ranks of the world make the same call; each group, or each set of peers, does it for itself. Other calls
/// over groups are taken too, or refused by OptionError.
template <class C>
concept GroupCommunicator = Communicator<C> && requires { requires C::has_groups; };

}  // namespace tessera
