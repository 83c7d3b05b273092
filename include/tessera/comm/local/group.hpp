// The state that the ranks of one Local share: one channel per queue, the failure, and one worker thread per rank.
// One mutex guards everything; tasks move memory without holding it.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <utility>

#include <tessera/comm/local/channel.hpp>
#include <tessera/comm/local/ranks.hpp>
#include <tessera/core/clock.hpp>
#include <tessera/core/list.hpp>

namespace tessera::local {

class Group {
 public:
  Group(int world, index_t inline_bytes)
      : world_(world), inline_bytes_(inline_bytes), ranks_(to_size(world)), states_(world) {}
  ~Group() { stop(); }
  Group(const Group&) = delete;
  Group& operator=(const Group&) = delete;

  int world() const noexcept { return world_; }

  /// Throws std::system_error if a thread cannot be started.
  void start() {
    for (int r = 0; r < world_; ++r) ranks_[to_size(r)].worker = std::thread([this, r] { work(r); });
  }

  void stop() {
    fail("run_ranks has ended", false, -1);
    {
      const std::scoped_lock lock(mutex_);
      stopping_ = true;
      for (Rank& rank : ranks_) rank.work_came.notify_all();
    }
    for (Rank& rank : ranks_)
      if (rank.worker.joinable()) rank.worker.join();
  }

  /// Opens the rank's next queue. The k-th queues of all ranks are one channel.
  std::shared_ptr<Channel> open(int rank) {
    const std::scoped_lock lock(mutex_);
    const std::size_t index = ranks_[to_size(rank)].queues++;
    while (channels_.size() <= index) channels_.push_back(std::make_shared<Channel>(world_, std::ssize(channels_)));
    return channels_[index];
  }

  void time_on(Channel& c, int rank, const QueueTracks& tracks) {
    const std::scoped_lock lock(mutex_);
    c.time_on(rank, tracks);
  }

  /// Joins the rank's next operation. Does not wait for other ranks; the last rank to join runs small operations
  /// before it returns. Throws the group's failure, and AgreementError if this call differs from the other ranks'.
  std::uint64_t post(Channel& c, int rank, const RankCall& of_rank) {
    const Call& call = of_rank.call;
    std::unique_lock lock(mutex_);
    calm(rank);
    states_.calls(rank, call);
    if (failed_) fail_rank(lock, c, rank);
    const std::uint64_t e = c.epoch[to_size(rank)];
    if (c.closed(e)) {
      if (!c.ends[e].has_lost) c.ends[e].lost = call, c.ends[e].has_lost = true;
      return Place{e, Place::never}.ticket();
    }
    const std::uint64_t sequence = c.posted[to_size(rank)];
    Operation& op = c.ring.at(sequence, c.completed);
    if (op.joined == 0) {
      op.begin(rank, world_, call);
    } else if (const int other = op.differs(rank, of_rank); other >= 0) {
      set_failure(message({"rank ", other, " calls ", op.call_of(other).text(), ", rank ", rank, " calls ", call.text(),
                           alike}),
                  true, rank);
      fail_rank(lock, c, rank);
    }
    op.join(rank, of_rank);
    ++c.posted[to_size(rank)];
    if (op.joined == world_) ++c.full, dispatch(lock, c, rank);
    return Place{e, sequence}.ticket();
  }

  bool done(const Channel& c, std::uint64_t ticket) const noexcept {
    const std::scoped_lock lock(mutex_);
    return c.is_completed(Place::of(ticket));
  }

  /// Blocks until the ticket's operation is done. Throws if it never can be, with AgreementError for a deadlock. After
  /// a throw no operation of the channel is running, and nothing accesses this rank's memory.
  void wait(Channel& c, int rank, std::uint64_t ticket, std::chrono::nanoseconds timeout) {
    std::unique_lock lock(mutex_);
    const Place place = Place::of(ticket);
    if (c.is_completed(place)) return;
    const Timed timed = c.timed_wait(rank, place);
    const RankStates::Wait wait(states_, rank, c, place);
    fail_if_stuck();
    const core::Clock::time_point deadline = core::deadline_after(timeout);
    while (!c.is_completed(place)) {
      if (failed_) fail_rank(lock, c, rank);
      core::Clock::time_point wake = deadline;
      std::string why;
      if (const int culprit = c.why_never(rank, place, states_.returned(), why); culprit >= 0) {
        // A rank that left because of an exception reports it soon. Wait, because that message is more useful.
        wake = ranks_[to_size(culprit)].unwinding_until;
        if (wake <= core::Clock::now()) {
          drain(lock, c);
          ranks_[to_size(rank)].told = true;
          throw CommError(why);
        }
      } else if (place.sequence < c.full) {
        wake = core::Clock::time_point::max();  // all ranks have joined: only copies remain, and they end
      } else if (wake <= core::Clock::now()) {
        set_failure(message({c.missing(timeout), ": ", states_.text()}), false, rank);
        continue;
      }
      ranks_[to_size(rank)].news.wait_until(lock, wake);
    }
  }

  /// See CommunicationQueue. Afterwards no operation of this channel accesses the rank's memory.
  void drop(Channel& c, int rank, bool unwinding) {
    std::unique_lock lock(mutex_);
    end_epoch(lock, c, rank, unwinding, false);
  }

  /// A final drop(). A second call has no effect.
  void leave(Channel& c, int rank, bool unwinding) {
    std::unique_lock lock(mutex_);
    if (c.left[to_size(rank)]) return;
    end_epoch(lock, c, rank, unwinding, !unwinding);
    c.left[to_size(rank)] = true;
    c.time_on(rank, {});  // the timeline may be destroyed after this
    notify();
  }

  /// The rank's function has returned.
  void returned(int rank) {
    const std::scoped_lock lock(mutex_);
    states_.returns(rank);
    fail_if_stuck();
    notify();
  }

  /// Ends the group: the waits and later calls of every rank throw `why`. Only the first failure is recorded.
  void fail(const std::string& why, bool disagreement, int rank) {
    const std::scoped_lock lock(mutex_);
    set_failure(why, disagreement, rank);
  }

  /// Whether a CommError of this rank reports what another rank did.
  bool was_told(int rank) const {
    const std::scoped_lock lock(mutex_);
    return ranks_[to_size(rank)].told;
  }

 private:
  static constexpr const char* alike = ": every rank must make the same calls in the same order; the group has ended";

  struct WorkItem {
    Channel* channel;
    Operation* operation;
  };

  struct Rank {
    std::thread worker;
    std::condition_variable work_came, news;
    core::List<WorkItem> work;  // at most one per channel
    std::size_t queues = 0;
    core::Clock::time_point unwinding_until{};
    bool told = false;
  };

  void notify() noexcept {
    for (Rank& rank : ranks_) rank.news.notify_all();
  }

  // The rank makes a call again, so it has caught its exception.
  void calm(int rank) noexcept {
    if (std::exchange(ranks_[to_size(rank)].unwinding_until, {}) != core::Clock::time_point{}) notify();
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

  void fail_if_stuck() {
    if (states_.stuck()) set_failure(message({"no rank can go on: ", states_.text(), alike}), true, -1);
  }

  [[noreturn]] void fail_rank(std::unique_lock<std::mutex>& lock, Channel& c, int rank) {
    drain(lock, c);
    if (disagreement_) throw AgreementError(failure_);
    ranks_[to_size(rank)].told = ranks_[to_size(rank)].told || culprit_ != rank;
    throw CommError(failure_);
  }

  void end_epoch(std::unique_lock<std::mutex>& lock, Channel& c, int rank, bool unwinding, bool leaving) {
    if (unwinding) ranks_[to_size(rank)].unwinding_until = core::Clock::now() + std::chrono::milliseconds(50);
    const std::uint64_t e = c.epoch[to_size(rank)];
    if (!c.closed(e)) {
      c.close(rank, leaving, states_.returned());
      notify();
    }
    if (e == c.live) {
      drain(lock, c);
      if (e == c.live) c.begin_epoch();  // no other rank began it while this one waited
    }
    c.posted[to_size(rank)] = 0;
    ++c.epoch[to_size(rank)];
    notify();
  }

  // Waits until no operation of the live epoch runs or can start: after the end, incomplete operations never start.
  void drain(std::unique_lock<std::mutex>& lock, Channel& c) {
    ++draining_;
    while (c.in_flight || (!failed_ && c.completed < c.full)) drained_.wait(lock);
    --draining_;
  }

  // --- work ---------------------------------------------------------------------------------------------------------

  // Starts the next operation if all ranks have joined it and the previous one, whose output it may read, is done.
  void dispatch(std::unique_lock<std::mutex>& lock, Channel& c, int by) {
    while (!failed_ && !c.in_flight && c.completed < c.full) {
      Operation& op = c.ring[c.completed];
      c.begin(op);
      if (op.bytes() > inline_bytes_) {
        op.tasks_left = world_;
        for (Rank& rank : ranks_) {
          rank.work.push_back({&c, &op});
          rank.work_came.notify_one();
        }
        return;
      }
      lock.unlock();
      try {
        for (int r = 0; r < world_; ++r) op.run(r);
      } catch (const Error& error) {
        lock.lock();
        c.in_flight = false;
        drained_.notify_all();
        set_failure(message({"rank ", by, " failed: ", error.what()}), false, by);
        throw;
      }
      lock.lock();
      complete(c, op);
    }
  }

  void complete(Channel& c, Operation& op) noexcept {
    c.end(op);
    notify();
    if (draining_ > 0) drained_.notify_all();
  }

  void work(int rank) {
    std::unique_lock lock(mutex_);
    Rank& mine = ranks_[to_size(rank)];
    for (;;) {
      while (mine.work.empty() && !stopping_) mine.work_came.wait(lock);
      if (mine.work.empty()) return;
      const WorkItem item = mine.work[0];
      mine.work.erase(mine.work.begin(), mine.work.begin() + 1);
      lock.unlock();
      item.operation->run(rank);
      lock.lock();
      if (--item.operation->tasks_left > 0) continue;
      complete(*item.channel, *item.operation);
      dispatch(lock, *item.channel, rank);
    }
  }

  const int world_;
  const index_t inline_bytes_;
  mutable std::mutex mutex_;
  core::List<Rank> ranks_;
  RankStates states_;
  core::List<std::shared_ptr<Channel>> channels_;
  std::condition_variable drained_;
  int draining_ = 0;
  bool stopping_ = false;
  bool failed_ = false;
  bool disagreement_ = false;
  int culprit_ = -1;
  std::string failure_;
};

}  // namespace tessera::local
