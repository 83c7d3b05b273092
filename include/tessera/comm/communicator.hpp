// The concepts of a communicator: its ranks, its executor, and its queues of asynchronous collectives.
// docs/communicators.md explains how to write one.
#pragma once

#include <chrono>
#include <concepts>
#include <cstdint>
#include <span>

#include <tessera/comm/call.hpp>
#include <tessera/exec/executor.hpp>
#include <tessera/timeline/timeline.hpp>

namespace tessera {

/// Queue Q accepts the call, or the span of calls, `Call`.
template <class Q, class Call>
concept Posts = requires(Q& queue, const Call& call, const typename Q::Event& after) {
  { queue.post(call, after) } -> std::same_as<typename Q::Event>;
};

/// A queue of collectives. post() enqueues and returns at once. After its event, this rank may write what the call
/// reads and read what the call writes. Buffers must stay alive until the event or drop(). The event's wait() throws
/// CommError (a rank failed, left, dropped or timed out) or AgreementError (ranks made different calls).
///
///   post(call, after)   the call (comm/call.hpp) starts after the event `after` and after the previous call
///   drop()   ends the current epoch: waits for the collectives that all ranks have joined, and cancels all others,
///            which never access memory again. Waits of ranks that have not dropped throw until they drop too. The
///            k-th drop of every rank ends the k-th epoch. Does not throw.
///
/// The destructor drops and detaches (DetachableQueue). The concept lists the calls that the library makes. A queue may
/// accept others, such as AllToAll, Broadcast and AllReduce of floating-point numbers: test with Posts<Queue, ...>.
template <class Q>
concept CommunicationQueue =
    Posts<Q, ReduceScatter<float, float>> && Posts<Q, ReduceScatter<bfloat16, bfloat16>> &&
    Posts<Q, ReduceScatter<bfloat16, float>> && Posts<Q, ReduceScatter<float16, float16>> &&
    Posts<Q, ReduceScatter<float16, float>> && Posts<Q, AllGather<float>> && Posts<Q, AllGather<bfloat16>> &&
    Posts<Q, AllGather<float16>> && Posts<Q, AllGather<std::uint64_t>> && Posts<Q, AllReduce<std::uint64_t>> &&
    requires(Q& queue) {
      { queue.drop() } noexcept;
    };

// --- optional members of a queue ------------------------------------------------------------------------------------

/// post(calls, after): several calls of one type, in order, with one event for all. A queue may start them together,
/// so each call that needs a workspace needs its own.
template <class Q, class Call>
concept GroupingQueue = Posts<Q, std::span<const Call>>;

/// detach(): a final drop() by a rank that ended without an error. Ranks that still wait for it get an error that says
/// that it left, not that it dropped a pass. No posts may follow; a second call has no effect.
template <class Q>
concept DetachableQueue = requires(Q& queue) {
  { queue.detach() } noexcept;
};

/// time_on(tracks): from then on the queue records when its collectives ran and how long this rank waited for them.
template <class Q>
concept TimedQueue = requires(Q& queue, const QueueTracks& tracks) { queue.time_on(tracks); };

/// join(producer): later posts run after the work that is already on the stream.
template <class Q, class Stream>
concept StreamJoiningQueue = requires(Q& queue, const Stream& producer) { queue.join(producer); };

/// A queue whose sums have no fixed order, except those of InFixedOrder<Call>.
template <class Q, class Call>
concept OrdersSums = Posts<Q, InFixedOrder<Call>>;

namespace communicator {

/// Posts the calls one after another. Returns one event for all.
template <class Queue, class Call>
typename Queue::Event post_each(Queue& queue, std::span<const Call> calls, const typename Queue::Event& after) {
  typename Queue::Event last = after;
  for (const Call& call : calls) last = queue.post(call, after);
  return last;
}

/// Posts the calls as one group if the queue can, else one after another.
template <class Queue, class Call>
typename Queue::Event post(Queue& queue, std::span<const Call> calls, const typename Queue::Event& after = {}) {
  if constexpr (GroupingQueue<Queue, Call>)
    return queue.post(calls, after);
  else
    return post_each(queue, calls, after);
}

/// Detaches from the queue, or drops if it has no detach().
template <class Queue>
void detach(Queue& queue) noexcept {
  if constexpr (DetachableQueue<Queue>)
    queue.detach();
  else
    queue.drop();
}

}  // namespace communicator

/// Whether a ReduceScatter<In, Out> over Comm needs a workspace. Comm says so in the member template needs_workspace;
/// without that member it needs none.
template <class Comm, class In, class Out>
constexpr bool needs_workspace() {
  if constexpr (requires { Comm::template needs_workspace<In, Out>; })
    return Comm::template needs_workspace<In, Out>;
  else
    return false;
}

/// The handle of one rank. `ordered`: sums are formed in the fixed tree of design section 4.3. queue(timeout): every
/// rank makes its queues in the same order; queues make progress independently. A wait longer than `timeout` throws
/// CommError, which names the missing ranks.
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

/// A communicator that accepts the calls of hybrid sharding: AllGather over groups and over peers, and ReduceScatter
/// over a world in groups. All ranks of the world make the same call; each group, or each set of peers, performs it
/// separately. Other calls over groups are accepted or throw OptionError.
template <class C>
concept GroupCommunicator = Communicator<C> && requires { requires C::has_groups; };

}  // namespace tessera
