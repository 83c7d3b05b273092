// What the ranks of one Local share: channels (one a queue), who has come how far, and a worker thread a rank.
// Everything is guarded by one mutex; memory is moved without holding it.
//
//     epoch 0   | op 0 | op 1 | op 2 ...      drop: all that everybody has joined is finished, the rest is forgotten,
//     epoch 1   | op 0 | ...                  and the next epoch begins. Only the youngest epoch lives.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <exception>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include <tessera/comm/local_call.hpp>

namespace tessera::local {

using Clock = std::chrono::steady_clock;

/// A place in a channel: sequence number within an epoch.
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
  std::uint64_t limit;  // this many operations were joined by all
  int dropper;
  std::string why;      // empty: the dropper began it; else what had made it impossible to go on
  bool has_lost = false;
  Call lost = {};  // the first operation that cannot be
};

struct Channel {
  explicit Channel(int world) : ring(world), epoch(world), posted(world), left(world) {}

  Ring ring;                         // of the live epoch, as are the four numbers that follow
  std::uint64_t live = 0;
  std::uint64_t full = 0;            // operations that all ranks have joined
  std::uint64_t completed = 0;       // so many of them are done; the next one is at work if in_flight
  bool in_flight = false;
  std::vector<End> ends;             // of each closed epoch; the live one may be closed and not yet drained
  std::vector<std::uint64_t> epoch;  // a rank: the epoch it is in, and how many operations it has joined there
  std::vector<std::uint64_t> posted;
  std::vector<char> left;

  bool closed(std::uint64_t e) const noexcept { return e < ends.size(); }
};

class Group {
 public:
  using Lock = std::unique_lock<std::mutex>;

  Group(int world, index_t inline_bytes) : world_(world), inline_bytes_(inline_bytes), ranks_(world) {
    for (int r = 0; r < world; ++r) ranks_[r] = std::make_unique<Rank>();
  }
  ~Group() { stop(); }
  Group(const Group&) = delete;
  Group& operator=(const Group&) = delete;

  int world() const noexcept { return world_; }

  /// Throws std::system_error if the system gives no thread.
  void start() {
    for (int r = 0; r < world_; ++r) ranks_[r]->worker = std::thread([this, r] { work(r); });
  }

  void stop() {
    fail("run_ranks has ended", false, -1);
    {
      const std::lock_guard lock(mutex_);
      stopping_ = true;
      for (auto& rank : ranks_) rank->work_came.notify_all();
    }
    for (auto& rank : ranks_)
      if (rank->worker.joinable()) rank->worker.join();
  }

  /// The rank's next queue: the k-th of every rank are one channel.
  std::shared_ptr<Channel> open(int rank) {
    const std::lock_guard lock(mutex_);
    const std::size_t index = ranks_[rank]->queues++;
    while (channels_.size() <= index) channels_.push_back(std::make_shared<Channel>(world_));
    return channels_[index];
  }

  /// Joins the rank's next operation. Does not wait for other ranks; the last to come does small ones on the spot.
  /// Throws the group's failure, AgreementError if this call is not the others'.
  std::uint64_t post(Channel& c, int rank, const Call& call, const Ends& ends) {
    Lock lock(mutex_);
    calm(rank);
    if (failed_) fail_rank(lock, c, rank);
    const std::uint64_t e = c.epoch[rank];
    if (c.closed(e)) {
      if (!c.ends[e].has_lost) c.ends[e].lost = call, c.ends[e].has_lost = true;
      return Place{e, Place::never}.ticket();
    }
    const std::uint64_t sequence = c.posted[rank];
    Operation& op = c.ring.at(sequence, c.completed);
    if (op.joined == 0) {
      op.call = call;
      op.first = rank;
    } else if (!op.call.same_as(call)) {
      set_failure("rank " + std::to_string(op.first) + " calls " + op.call.text() + ", rank " + std::to_string(rank) +
                      " calls " + call.text() + ": every rank must make the same calls in the same order",
                  true, rank);
      fail_rank(lock, c, rank);
    }
    op.ranks[rank] = ends;
    ++c.posted[rank];
    if (++op.joined == world_) {
      ++c.full;
      dispatch(lock, c);
    }
    return Place{e, sequence}.ticket();
  }

  bool done(const Channel& c, std::uint64_t ticket) const noexcept {
    const std::lock_guard lock(mutex_);
    return completed(c, Place::of(ticket));
  }

  /// Blocks until the ticket's operation is done. Throws what keeps it from ever being; then the channel is at rest and
  /// nothing touches this rank's memory.
  void wait(Channel& c, int rank, std::uint64_t ticket, std::chrono::nanoseconds timeout) {
    Lock lock(mutex_);
    const Place place = Place::of(ticket);
    if (completed(c, place)) return;
    const auto deadline = Clock::now() + std::min<std::chrono::nanoseconds>(timeout, std::chrono::hours(24 * 365));
    while (!completed(c, place)) {
      if (failed_) fail_rank(lock, c, rank);
      auto wake = deadline;
      std::string why;
      if (const int culprit = why_never(c, rank, place, why); culprit >= 0) {
        // A rank that leaves because of an exception will soon say which: that is the better message.
        wake = ranks_[culprit]->unwinding_until;
        if (wake <= Clock::now()) {
          drain(lock, c);
          ranks_[rank]->told = true;
          throw CommError(why);
        }
      } else if (wake <= Clock::now()) {
        if (place.sequence < c.full) {  // it is only memory being moved, and will end
          wait_for_news(lock, rank);
          continue;
        }
        set_failure(missing(c, timeout), false, rank);
        continue;
      }
      wait_for_news(lock, rank, wake);
    }
  }

  /// See CommunicationQueue. Afterwards nothing of this channel touches the rank's memory.
  void drop(Channel& c, int rank, bool unwinding) {
    Lock lock(mutex_);
    if (unwinding) ranks_[rank]->unwinding_until = Clock::now() + std::chrono::milliseconds(50);
    const std::uint64_t e = c.epoch[rank];
    if (!c.closed(e)) {
      close(c, rank);
      notify();
    }
    if (e == c.live) {
      drain(lock, c);
      if (e == c.live) {  // no one else was faster
        c.ends[e].limit = c.completed;
        c.ring.clear();
        c.full = c.completed = 0;
        ++c.live;
      }
    }
    c.posted[rank] = 0;
    ++c.epoch[rank];
    notify();
  }

  void leave(Channel& c, int rank, bool unwinding) {
    drop(c, rank, unwinding);
    const std::lock_guard lock(mutex_);
    c.left[rank] = true;
    notify();
  }

  /// The rank's function has returned.
  void returned(int rank) {
    const std::lock_guard lock(mutex_);
    ranks_[rank]->returned = true;
    notify();
  }

  /// Ends the group: every rank's waits and later calls throw `why`. The first failure stays.
  void fail(const std::string& why, bool disagreement, int rank) {
    const std::lock_guard lock(mutex_);
    set_failure(why, disagreement, rank);
  }

  /// Whether a CommError of this rank's only passes on what another rank did.
  bool was_told(int rank) const {
    const std::lock_guard lock(mutex_);
    return ranks_[rank]->told;
  }

 private:
  struct Portioned {
    Channel* channel;
    Operation* operation;
  };

  struct Rank {
    std::thread worker;
    std::condition_variable work_came;
    std::vector<Portioned> work;  // at most one a channel, so short
    std::condition_variable news;
    int waiting = 0;
    std::size_t queues = 0;
    Clock::time_point unwinding_until{};
    bool returned = false;
    bool told = false;
  };

  static bool completed(const Channel& c, Place place) noexcept {
    return place.sequence < (place.epoch < c.live ? c.ends[place.epoch].limit : c.completed);
  }

  void notify() noexcept {
    for (auto& rank : ranks_)
      if (rank->waiting > 0) rank->news.notify_all();
  }

  void wait_for_news(Lock& lock, int rank, Clock::time_point until) {
    ++ranks_[rank]->waiting;
    ranks_[rank]->news.wait_until(lock, until);
    --ranks_[rank]->waiting;
  }

  void wait_for_news(Lock& lock, int rank) {
    ++ranks_[rank]->waiting;
    ranks_[rank]->news.wait(lock);
    --ranks_[rank]->waiting;
  }

  // A sign of life: the rank has caught its exception.
  void calm(int rank) noexcept {
    if (ranks_[rank]->unwinding_until == Clock::time_point{}) return;
    ranks_[rank]->unwinding_until = {};
    notify();
  }

  // --- failure ------------------------------------------------------------------------------------------------------

  void set_failure(const std::string& why, bool disagreement, int rank) {
    if (failed_) return;
    failed_ = true;
    failure_ = why;
    disagreement_ = disagreement;
    culprit_ = rank;
    notify();
  }

  [[noreturn]] void fail_rank(Lock& lock, Channel& c, int rank) {
    drain(lock, c);
    if (disagreement_) throw AgreementError(failure_);
    ranks_[rank]->told = ranks_[rank]->told || culprit_ != rank;
    throw CommError(failure_);
  }

  // Until nothing of the live epoch is at work or about to be: what is not joined by all never runs after an end.
  void drain(Lock& lock, Channel& c) {
    ++draining_;
    while (c.in_flight || (!failed_ && c.completed < c.full)) drained_.wait(lock);
    --draining_;
  }

  void close(Channel& c, int rank) {
    End end{c.full, rank, {}};
    if (const Operation& next = c.ring.at(c.full, c.completed); next.joined > 0) {
      end.lost = next.call;
      end.has_lost = true;
      if (const int gone = first_gone(c, end.why); gone >= 0) end.dropper = gone;
    }
    c.ends.push_back(std::move(end));
  }

  // A rank that is gone and has not joined the live epoch's first incomplete operation, or -1.
  int first_gone(Channel& c, std::string& why) const {
    for (int r = 0; r < world_; ++r) {
      if (c.epoch[r] == c.live && c.posted[r] > c.full) continue;
      if (!ranks_[r]->returned && !c.left[r]) continue;
      why = "rank " + std::to_string(r) + (ranks_[r]->returned ? " has returned" : " has left the queue") +
            " and does not join " + c.ring[c.full].call.text();
      return r;
    }
    return -1;
  }

  // The rank that will never join what `place` waits for, and what it did; -1 if all still may.
  int why_never(Channel& c, int rank, Place place, std::string& why) const {
    if (c.closed(place.epoch) && place.sequence >= c.ends[place.epoch].limit) {
      const End& end = c.ends[place.epoch];
      if (end.dropper == rank) {
        why = "this rank dropped the collective that it waits for";
        return rank;
      }
      if (!end.why.empty()) {
        why = end.why;
        return end.dropper;
      }
      why = "rank " + std::to_string(end.dropper) + " dropped";
      if (end.has_lost)
        why += " pass " + std::to_string(end.lost.tag.pass) + " and does not join " + end.lost.text();
      return end.dropper;
    }
    if (place.epoch != c.live || place.sequence < c.full) return -1;
    return first_gone(c, why);
  }

  std::string missing(Channel& c, std::chrono::nanoseconds timeout) const {
    std::string who;
    int count = 0;
    for (int r = 0; r < world_; ++r)
      if (c.epoch[r] != c.live || c.posted[r] <= c.full) {
        who += (count++ ? ", " : "") + std::to_string(r);
      }
    if (const auto comma = who.rfind(", "); comma != std::string::npos) who.replace(comma, 2, " and ");
    return (count > 1 ? "ranks " : "rank ") + who + (count > 1 ? " have" : " has") + " not called " +
           c.ring[c.full].call.text() + " after " +
           std::to_string(std::chrono::duration_cast<std::chrono::milliseconds>(timeout).count()) + " ms";
  }

  // --- work ---------------------------------------------------------------------------------------------------------

  // Starts the channel's next operation if all have joined it and the one before is done: that one's buffers may be
  // what this one writes.
  void dispatch(Lock& lock, Channel& c) {
    while (!failed_ && !c.in_flight && c.completed < c.full) {
      Operation& op = c.ring[c.completed];
      c.in_flight = true;
      if (op.bytes() > inline_bytes_) {
        op.portions_left = world_;
        for (auto& rank : ranks_) {
          rank->work.push_back({&c, &op});
          rank->work_came.notify_one();
        }
        return;
      }
      lock.unlock();
      for (int r = 0; r < world_; ++r) op.run(r);
      lock.lock();
      complete(c, op);
    }
  }

  void complete(Channel& c, Operation& op) noexcept {
    op.joined = 0;
    c.in_flight = false;
    ++c.completed;
    notify();
    if (draining_ > 0) drained_.notify_all();
  }

  void work(int rank) {
    Lock lock(mutex_);
    Rank& mine = *ranks_[rank];
    for (;;) {
      while (mine.work.empty() && !stopping_) mine.work_came.wait(lock);
      if (mine.work.empty()) return;
      const Portioned item = mine.work.front();
      mine.work.erase(mine.work.begin());
      lock.unlock();
      item.operation->run(rank);
      lock.lock();
      if (--item.operation->portions_left > 0) continue;
      complete(*item.channel, *item.operation);
      dispatch(lock, *item.channel);
    }
  }

  const int world_;
  const index_t inline_bytes_;
  mutable std::mutex mutex_;
  std::vector<std::unique_ptr<Rank>> ranks_;
  std::vector<std::shared_ptr<Channel>> channels_;
  std::condition_variable drained_;
  int draining_ = 0;
  bool stopping_ = false;
  bool failed_ = false;
  bool disagreement_ = false;
  int culprit_ = -1;
  std::string failure_;
};

}  // namespace tessera::local
