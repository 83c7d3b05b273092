// One queue of Local, shared by all ranks: which rank has joined which operation, and how each epoch ended. Has no
// threads and no lock: the caller holds the group's.
//
//     epoch 0   | op 0 | op 1 | op 2 ...      drop: finishes the operations that all ranks have joined, cancels the
//     epoch 1   | op 0 | ...                  others and begins the next epoch. Only the latest epoch is live.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <utility>

#include <tessera/comm/local/operation.hpp>
#include <tessera/core/clock.hpp>
#include <tessera/core/list.hpp>
#include <tessera/core/math.hpp>
#include <tessera/core/rank_list.hpp>
#include <tessera/core/ring.hpp>
#include <tessera/timeline/timeline.hpp>

namespace tessera::local {

/// The position of an operation in a channel: its epoch, and its sequence number in that epoch.
struct Place {
  std::uint64_t epoch;
  std::uint64_t sequence;

  static constexpr int bits = 40;
  static constexpr std::uint64_t never = (std::uint64_t{1} << bits) - 1;
  std::uint64_t ticket() const noexcept { return epoch << bits | sequence; }
  static Place of(std::uint64_t ticket) noexcept { return {ticket >> bits, ticket & never}; }
};

/// How an epoch ended.
struct End {
  std::uint64_t limit;  // the number of operations that all ranks joined
  int dropper;
  bool left;             // the dropper detached, not because of an exception
  std::string why = {};  // empty: the dropper ended the epoch; else why it could not continue before the drop
  bool has_lost = false;
  Call lost = {};  // the first operation that was cancelled

  /// The message of the error in ranks that still wait.
  std::string text() const {
    if (!why.empty()) return why;
    const std::string which = has_lost ? message({" and does not join ", lost.text()}) : std::string();
    if (left) return message({"rank ", dropper, " has left", which});
    if (!has_lost) return message({"rank ", dropper, " dropped"});
    return message({"rank ", dropper, " dropped pass ", lost.tag.pass, which});
  }
};

struct Channel {
  explicit Channel(int world, index_t queue = 0)
      : number(queue),
        epoch(to_size(world)),
        posted(epoch.size()),
        left(epoch.size()),
        tracks(epoch.size()) {}

  const index_t number;  // index of the queue, in the order in which every rank makes its queues
  core::Ring<Operation> ring;  // operations of the live epoch; the next four members describe it too
  std::uint64_t live = 0;
  std::uint64_t full = 0;       // operations that all ranks have joined
  std::uint64_t completed = 0;  // operations that are done; the next one is running if in_flight
  bool in_flight = false;
  core::List<End> ends;             // per closed epoch; the live one may be closed and not yet drained
  core::List<std::uint64_t> epoch;  // per rank: its epoch
  core::List<std::uint64_t> posted;  // per rank: the operations of its epoch that it has joined
  core::List<char> left;
  core::List<QueueTracks> tracks;  // per rank; null if it records no timeline
  bool timed = false;        // a rank records a timeline

  void time_on(int rank, const QueueTracks& on) noexcept {
    tracks[to_size(rank)] = on;
    timed = timed || on.work || on.waits;
  }

  /// begin(), end(): called when the next operation, which all ranks have joined, starts and when it is done.
  void begin(Operation& op) noexcept {
    in_flight = true;
    op.began = timed ? core::Clock::now() : core::Clock::time_point{};
  }
  void end(Operation& op) noexcept {
    if (op.began != core::Clock::time_point{}) {
      const Tag& tag = op.call.tag;
      const Span span{name(op.call.kind), tag.what, tag.index, tag.pass, op.began, core::Clock::now()};
      for (const QueueTracks& on : tracks)
        if (on.work) on.work->add(span);
    }
    op.joined = 0;
    in_flight = false;
    ++completed;
  }

  /// Whether `place` is an operation of the live epoch that the rank has joined and that is not done.
  bool has(int rank, Place place) const noexcept {
    return place.epoch == live && place.sequence >= completed && place.sequence < posted[to_size(rank)];
  }

  /// Times a wait for `place`, which is not done, from now until the returned object is destroyed.
  Timed timed_wait(int rank, Place place) noexcept {
    Span what{.kind = "wait"};
    if (timed && has(rank, place)) {
      const Tag& tag = ring[place.sequence].call.tag;
      what = {"wait", tag.what, tag.index, tag.pass};
    }
    return Timed(tracks[to_size(rank)].waits, what);
  }

  bool closed(std::uint64_t e) const noexcept { return e < ends.size(); }

  /// Whether the operation of `place` is done.
  bool is_completed(Place place) const noexcept {
    return place.sequence < (place.epoch < live ? ends[place.epoch].limit : completed);
  }

  /// Ends the live epoch because `rank` drops or detaches. returned: per rank, whether its function has returned.
  void close(int rank, bool leaving, const core::List<char>& returned) {
    End end{full, rank, leaving};
    if (const Operation& next = ring.at(full, completed); next.joined > 0) {
      end.lost = next.call;
      end.has_lost = true;
      if (const int gone = first_gone(returned, end.why); gone >= 0) end.dropper = gone;
    }
    ends.push_back(std::move(end));
  }

  /// Begins the next epoch. No operation of the live one may be in flight.
  void begin_epoch() noexcept {
    ends[live].limit = completed;
    ring.for_each([](Operation& op) { op.joined = 0; });
    full = completed = 0;
    ++live;
  }

  /// A rank that has left and has not joined the live epoch's first incomplete operation, or -1.
  int first_gone(const core::List<char>& returned, std::string& why) {
    for (int r = 0; r < static_cast<int>(epoch.size()); ++r) {
      if (epoch[to_size(r)] == live && posted[to_size(r)] > full) continue;
      if (!returned[to_size(r)] && !left[to_size(r)]) continue;
      why = message({"rank ", r, " has left", returned[to_size(r)] ? " (its function has returned)" : "",
                     " and does not join ", ring[full].call.text()});
      return r;
    }
    return -1;
  }

  /// The rank that will never join the operation of `place`, or -1 if all ranks still may. Sets `why` to the reason.
  int why_never(int rank, Place place, const core::List<char>& returned, std::string& why) {
    if (closed(place.epoch) && place.sequence >= ends[place.epoch].limit) {
      const End& end = ends[place.epoch];
      why = end.dropper == rank ? "this rank dropped the collective that it waits for" : end.text();
      return end.dropper;
    }
    if (place.epoch != live || place.sequence < full) return -1;
    return first_gone(returned, why);
  }

  /// Whether `place` needs a call that some rank has not made and still may make.
  bool needs_a_call(int rank, Place place, const core::List<char>& returned) {
    std::string why;
    return place.epoch == live && place.sequence >= full && why_never(rank, place, returned, why) < 0;
  }

  /// "ranks 1 and 3 have not called all_reduce of 1 float (norm 5, pass 6) after 50 ms".
  std::string missing(std::chrono::nanoseconds timeout) {
    core::List<int> who;
    for (int r = 0; r < static_cast<int>(epoch.size()); ++r)
      if (epoch[to_size(r)] != live || posted[to_size(r)] <= full) who.push_back(r);
    return message({core::text_of_ranks(who), who.size() > 1 ? " have" : " has", " not called ", ring[full].call.text(),
                    " after ", timeout.count() / 1'000'000, " ms"});
  }
};

}  // namespace tessera::local
