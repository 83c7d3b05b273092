// The state of each rank of a Local: what it waits for, its last call, and whether its function has returned. With it a
// deadlock is detected at once, and messages give the state of each rank. Has no lock: the caller holds the group's.
//
//     rank 0    waits for a collective of one queue,         which rank 1 has not called
//     rank 1    waits for a collective of another queue,     which rank 0 has not called: deadlock
#pragma once

#include <pthread.h>

#include <string>

#include <tessera/comm/local/call.hpp>
#include <tessera/comm/local/channel.hpp>
#include <tessera/core/list.hpp>
#include <tessera/core/math.hpp>

namespace tessera::local {

class RankStates {
 public:
  explicit RankStates(int world) : ranks_(to_size(world)), returned_(to_size(world)) {}

  /// The rank makes a call, which may fail.
  void calls(int rank, const Call& call) {
    note_thread(rank);
    ranks_[to_size(rank)].last = call;
    ranks_[to_size(rank)].called = true;
  }

  /// The rank's thread waits during this object's lifetime.
  class Wait {
   public:
    /// place: an operation of the channel that is not done.
    Wait(RankStates& states, int rank, Channel& channel, Place place) : states_(states), rank_(rank) {
      states.note_thread(rank);
      states.ranks_[to_size(rank)].channel = &channel;
      states.ranks_[to_size(rank)].place = place;
      ++states.waiting_;
    }
    Wait(const Wait&) = delete;
    Wait& operator=(const Wait&) = delete;
    ~Wait() {
      states_.ranks_[to_size(rank_)].channel = nullptr;
      --states_.waiting_;
    }

   private:
    RankStates& states_;
    int rank_;
  };

  /// The rank's function has returned.
  void returns(int rank) {
    returned_[to_size(rank)] = true;
    ++returned_ranks_;
  }
  const core::List<char>& returned() const noexcept { return returned_; }

  /// Whether every rank that has not returned waits for a call that another rank has not made: a deadlock.
  bool stuck() {
    if (several_threads_ || waiting_ == 0 || waiting_ + returned_ranks_ < world()) return false;
    for (int r = 0; r < world(); ++r)
      if (const Rank& rank = ranks_[to_size(r)];
          !returned_[to_size(r)] && !(rank.channel && rank.channel->needs_a_call(r, rank.place, returned_)))
        return false;
    return true;
  }

  /// "ranks 0 and 2 wait in queue 1 for all_reduce of 1 float (norm 5, pass 6); rank 3 has called nothing"
  std::string text() {
    core::List<State> states;
    for (int r = 0; r < world(); ++r) states.push_back(state_of(r));
    std::string all;
    for (std::size_t r = 0; r < states.size(); ++r) {
      core::List<int> alike;
      for (std::size_t other = 0; other < states.size(); ++other)
        if (states[other].same_as(states[r])) alike.push_back(static_cast<int>(other));
      if (alike[0] != static_cast<int>(r)) continue;  // already in the text with an earlier rank
      all += message({all.empty() ? "" : "; ", core::text_of_ranks(alike), alike.size() > 1 ? states[r].many : states[r].one,
                      states[r].what});
    }
    return all;
  }

 private:
  struct Rank {
    Channel* channel = nullptr;  // on which the rank waits; null: it does not wait
    Place place{};
    Call last{};
    bool called = false;
    pthread_t thread{};
    bool has_thread = false;
  };

  struct State {
    const char* one;
    const char* many;
    std::string what;
    bool same_as(const State& other) const { return one == other.one && what == other.what; }
  };

  int world() const noexcept { return static_cast<int>(ranks_.size()); }

  State state_of(int rank) {
    const Rank& r = ranks_[to_size(rank)];
    if (returned_[to_size(rank)]) return {" has returned", " have returned", {}};
    if (r.channel && r.channel->has(rank, r.place))
      return {" waits", " wait",
              message({" in queue ", r.channel->number, " for ", r.channel->ring[r.place.sequence].call.text()})};
    if (r.called) return {" last called ", " last called ", r.last.text()};
    return {" has called nothing", " have called nothing", {}};
  }

  // If a rank has several threads, one may still make the call that another waits for: only the timeout detects a
  // deadlock then.
  void note_thread(int rank) noexcept {
    Rank& r = ranks_[to_size(rank)];
    if (!r.has_thread) {
      r.thread = pthread_self();
      r.has_thread = true;
    } else if (!pthread_equal(r.thread, pthread_self())) {
      several_threads_ = true;
    }
  }

  core::List<Rank> ranks_;
  core::List<char> returned_;
  int waiting_ = 0;
  int returned_ranks_ = 0;
  bool several_threads_ = false;
};

}  // namespace tessera::local
