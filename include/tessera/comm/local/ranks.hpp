// Where the ranks of a Local are: what each waits for, what it called last, whether its function has returned. So it is
// known at once when no rank can go on, and messages say where each one is. Bookkeeping only: no lock; whoever calls
// holds the group's.
//
//     rank 0    waits for a collective of one queue,         which rank 1 has not called
//     rank 1    waits for a collective of another queue,     which rank 0 has not called: none can go on
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

  /// The rank makes a call, whatever comes of it.
  void calls(int rank, const Call& call) {
    note_thread(rank);
    ranks_[to_size(rank)].last = call;
    ranks_[to_size(rank)].called = true;
  }

  /// The rank's thread waits, as long as this lives.
  class Wait {
   public:
    /// For `place` of the channel, which is not done.
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

  /// Its function has.
  void returns(int rank) {
    returned_[to_size(rank)] = true;
    ++returned_ranks_;
  }
  const core::List<char>& returned() const noexcept { return returned_; }

  /// Whether each rank that has not returned waits for what some rank must still call: then none ever will.
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
      if (alike[0] != static_cast<int>(r)) continue;  // told with an earlier one
      all += message({all.empty() ? "" : "; ", core::text_of_ranks(alike), alike.size() > 1 ? states[r].many : states[r].one,
                      states[r].what});
    }
    return all;
  }

 private:
  struct Rank {
    Channel* channel = nullptr;  // of what it waits for; null: it does not wait
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

  // Of a rank with several threads, another one may still call what one of them waits for: then only the timeout tells.
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
