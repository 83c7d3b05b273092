// What a communicator is: its ranks, its executor, and queues of collectives that run behind the caller's back.
#pragma once

#include <chrono>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include <tessera/core/bfloat16.hpp>
#include <tessera/core/config.hpp>
#include <tessera/core/error.hpp>
#include <tessera/core/float16.hpp>
#include <tessera/core/math.hpp>
#include <tessera/exec/executor.hpp>
#include <tessera/timeline/timeline.hpp>

namespace tessera {

/// The first and the last of the units that a collective moves. Kept by value, for a message may name them after the
/// optimizer that they belong to has ended. Of a long name the end is kept.
class UnitNames {
 public:
  constexpr UnitNames() = default;
  constexpr UnitNames(std::string_view first, std::string_view last) {
    copy(first, first_);
    if (last != first) copy(last, last_);
  }

  /// "unit 'body'", "units 'body' to 'head'"; empty if there are none.
  std::string text() const {
    if (first_[0] == 0) return {};
    if (last_[0] == 0) return message({"unit '", first_, "'"});
    return message({"units '", first_, "' to '", last_, "'"});
  }

 private:
  static constexpr std::size_t room = 32;

  static constexpr void copy(std::string_view from, char (&to)[room]) {
    const std::string_view cut = "...";
    const bool fits = from.size() < room;
    std::size_t n = 0;
    if (!fits)
      for (const char c : cut) to[n++] = c;
    for (const char c : fits ? from : from.substr(from.size() - (room - 1 - cut.size()))) to[n++] = c;
  }

  char first_[room] = {};
  char last_[room] = {};
};

/// The name of one collective, {"gradients of bucket", 4, 17}: for messages, and equal on all ranks. `what` is a
/// literal. `units`: what the bucket holds, where there are units; not compared, since the layouts of all ranks were.
struct Tag {
  const char* what = "";
  index_t index = 0;
  index_t pass = 0;
  UnitNames units{};

  /// "gradients of bucket 4, unit 'body', pass 17"
  std::string text() const {
    const std::string named = units.text();
    return message({what, " ", index, named.empty() ? "" : ", ", named, ", pass ", pass});
  }
};

enum class Collective { reduce_scatter, all_gather, all_reduce, all_to_all, broadcast };

constexpr const char* name(Collective kind) noexcept {
  constexpr const char* names[] = {"reduce_scatter", "all_gather", "all_reduce", "all_to_all", "broadcast"};
  return names[static_cast<int>(kind)];
}

/// What messages and logs say of an element.
struct ElementType {
  const char* name = "";
  index_t bytes = 0;
};

template <class T>
constexpr ElementType element_type() noexcept {
  constexpr index_t bytes = sizeof(T);
  if constexpr (std::same_as<T, float>) return {"float", bytes};
  else if constexpr (std::same_as<T, double>) return {"double", bytes};
  else if constexpr (std::same_as<T, bfloat16>) return {"bfloat16", bytes};
  else if constexpr (std::same_as<T, float16>) return {"float16", bytes};
  else if constexpr (std::same_as<T, std::uint64_t>) return {"uint64", bytes};
  else if constexpr (std::same_as<T, std::int64_t>) return {"int64", bytes};
  else return {"elements of another type", bytes};
}

/// The elements of rank r's part, of a vector that is cut every `part`: the last ones may be short or empty.
struct Slice {
  index_t begin = 0;
  index_t size = 0;

  TESSERA_HD constexpr Slice(index_t elements, index_t part, int rank) noexcept
      : begin(min(rank * part, elements)), size(min(part, elements - begin)) {}
};

/// What collectives refuse before anything is sent. Throws BufferError.
inline void check_slices(const char* call, index_t elements, index_t part, int world, index_t slice_room, int rank) {
  if (part < 0 || elements > part * world)
    throw BufferError(message({call, ": ", elements, " elements do not fit into ", world, " parts of ", part}));
  if (slice_room < Slice(elements, part, rank).size)
    throw BufferError(message({call, ": rank ", rank, "'s slice has ", Slice(elements, part, rank).size,
                               " elements, its buffer ", slice_room}));
}

inline void check_all_to_all(index_t in, index_t out, int world) {
  if (in != out || in % world != 0)
    throw BufferError(message({"all_to_all: in has ", in, " elements, out ", out, ": both need the same multiple of ",
                               world}));
}

inline void check_root(int root, int world) {
  if (root < 0 || root >= world)
    throw OptionError(message({"broadcast: there is no rank ", root, " among ", world}));
}

namespace communicator {

template <class Q, class Event, class T>
concept Moves =
    requires(Q& q, std::span<const T> in, std::span<T> out, index_t part, int root, Tag tag, const Event& after) {
  { q.all_gather(in, out, part, tag, after) } -> std::same_as<Event>;
  { q.all_to_all(in, out, tag, after) } -> std::same_as<Event>;
  { q.broadcast(out, root, tag, after) } -> std::same_as<Event>;
};

template <class Q, class Event, class In, class Out>
concept ReduceScatters =
    requires(Q& q, std::span<const In> in, std::span<Out> out, index_t part, float scale, Tag tag, const Event& after) {
  { q.reduce_scatter(in, out, part, scale, tag, after) } -> std::same_as<Event>;
};

template <class Q, class Event, class T>
concept AllReduces = requires(Q& q, std::span<T> inout, Tag tag, const Event& after) {
  { q.all_reduce(inout, tag, after) } -> std::same_as<Event>;
};

}  // namespace communicator

/// A queue of collectives. Every method enqueues and returns at once; its event is this rank's: what it reads may be
/// written, and what it writes may be read. Buffers stay alive until the event or drop(). Errors come from the event's
/// wait() (CommError: a rank failed, left, dropped or did not come in time; AgreementError: ranks call differently).
///
///   reduce_scatter(in, out, part, scale, tag, after)
///                 in: [<= world * part]; out: this rank's slice of in, summed over ranks in fp32, multiplied by scale
///                 in fp32, and then rounded once; in place: out lies on that slice. A communicator that is not
///                 `ordered` may round as its library does, and multiply what each rank brings instead of the sum
///   all_gather(in, out, part, tag, after)
///                 in: this rank's slice of out; out: [<= world * part]; in place the same
///   all_reduce(inout, tag, after)       sums; integers modulo 2^64
///   all_to_all(in, out, tag, after)     both [world * n]: in's r-th n-th goes to rank r; not in place
///   broadcast(inout, root, tag, after)
///   drop()   leaves the current epoch: what all ranks have joined is waited for, all else is withdrawn and never
///            touches memory again. Ranks that do not drop learn of it from their waits, until they drop too. The k-th
///            drop of every rank ends the k-th epoch. Does not throw.
///
/// Its destructor drops and leaves for good (LeavingQueue).
template <class Q, class Event>
concept CommunicationQueue =
    communicator::Moves<Q, Event, float> && communicator::Moves<Q, Event, bfloat16> &&
    communicator::Moves<Q, Event, float16> &&
    communicator::Moves<Q, Event, std::uint64_t> && communicator::ReduceScatters<Q, Event, float, float> &&
    communicator::ReduceScatters<Q, Event, bfloat16, bfloat16> &&
    communicator::ReduceScatters<Q, Event, bfloat16, float> &&
    communicator::ReduceScatters<Q, Event, float16, float16> &&
    communicator::ReduceScatters<Q, Event, float16, float> &&
    communicator::AllReduces<Q, Event, float> && communicator::AllReduces<Q, Event, double> &&
    communicator::AllReduces<Q, Event, std::uint64_t> && communicator::AllReduces<Q, Event, std::int64_t> &&
    requires(Q& q) {
      { q.drop() } noexcept;
    };

/// What a queue may have besides: drop() for good, of a rank that has ended as it should. Those that still wait for it
/// are told that it has left, not that it dropped a pass. Nothing is posted afterwards; twice is once.
template <class Q>
concept LeavingQueue = requires(Q& q) {
  { q.leave() } noexcept;
};

namespace communicator {

/// Leaves the queue for good; one that cannot tell it from a drop drops.
template <class Q>
void leave(Q& queue) noexcept {
  if constexpr (LeavingQueue<Q>)
    queue.leave();
  else
    queue.drop();
}

}  // namespace communicator

/// What a queue may have besides: from then on it writes when its collectives ran and how long this rank waited for
/// them.
template <class Q>
concept TimedQueue = requires(Q& q, const QueueTracks& tracks) { q.time_on(tracks); };

/// What a queue has besides whose reductions go through memory of their own: bytes of world * part elements that are
/// read, at a 16-byte border, used by one reduction after another. They outlive the queue's work.
template <class Q>
concept StagingQueue = requires(Q& q, std::span<std::byte> staging) {
  { q.lend(staging) } noexcept;
};

/// Whether Comm's queues must be lent it for reduce_scatter of In into Out.
template <class Comm, class In, class Out>
constexpr bool stages_reductions() {
  if constexpr (requires { Comm::template stages<In, Out>; })
    return Comm::template stages<In, Out>;
  else
    return false;
}

/// A handle of one rank. `ordered`: sums are in the fixed tree of design section 4.3. queue(timeout): every rank makes
/// its queues in the same order; two queues progress independently of each other. timeout: how long a wait lasts before
/// CommError says who is missing.
template <class C>
concept Communicator =
    std::copy_constructible<C> && Executor<typename C::Executor> &&
    CommunicationQueue<typename C::Queue, typename C::Executor::Event> &&
    requires(const C constant, C c, std::chrono::nanoseconds timeout) {
      { C::ordered } -> std::convertible_to<bool>;
      typename std::bool_constant<C::ordered>;
      { constant.rank() } -> std::same_as<int>;
      { constant.size() } -> std::same_as<int>;
      { constant.executor() } -> std::same_as<typename C::Executor>;
      { c.queue(timeout) } -> std::same_as<typename C::Queue>;
    };

}  // namespace tessera
