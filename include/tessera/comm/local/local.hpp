// Ranks as threads of one process. Each rank has a worker thread, so collectives progress while the rank computes. They
// read the peers' memory directly; sums are formed in the fixed tree of design section 4.3.
#pragma once

#include <chrono>
#include <exception>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <thread>
#include <utility>

#include <tessera/comm/communicator.hpp>
#include <tessera/comm/local/group.hpp>
#include <tessera/core/list.hpp>
#include <tessera/exec/host.hpp>

namespace tessera {

struct LocalOptions {
  /// The last rank to join performs collectives that move at most this many bytes over all ranks, because waking one
  /// thread per rank would cost more.
  index_t inline_bytes = index_t{64} << 10;
};

/// One rank of a group that run_ranks() made. A handle: copies are the same rank.
class Local {
 public:
  using Executor = Host;
  static constexpr bool ordered = true;
  static constexpr bool has_groups = true;

  /// For run_ranks().
  Local(std::shared_ptr<local::Group> group, int rank) : group_(std::move(group)), rank_(rank) {}

  /// See CommunicationQueue. post() waits for an `after` that has not happened, since compute on the host is
  /// synchronous; nothing else blocks. One thread uses a queue at a time. Posts and waits throw CommError once a rank
  /// has failed, and AgreementError once ranks have made different calls or are in a deadlock, which is detected if
  /// every rank has one thread.
  class Queue final : public Completion {
   public:
    using Event = HostEvent;

    Queue(const Queue&) = delete;
    Queue& operator=(const Queue&) = delete;
    ~Queue() { detach(); }

    template <CollectiveCall Call>
    Event post(const Call& call, const Event& after = {}) {
      check_call(call, group_->world(), rank_);
      call_.set(call, local::host_task<Call>());
      after.wait();
      return {*this, group_->post(*channel_, rank_, call_)};
    }
    template <CollectiveCall Call>
    Event post(std::span<const Call> calls, const Event& after = {}) {
      return communicator::post_each(*this, calls, after);
    }

    void drop() noexcept { group_->drop(*channel_, rank_, unwinding()); }
    void detach() noexcept { group_->leave(*channel_, rank_, unwinding()); }

    /// A collective's span begins when all ranks have called it and the previous one is done. It ends with its event.
    void time_on(const QueueTracks& tracks) { group_->time_on(*channel_, rank_, tracks); }

    bool done(std::uint64_t ticket) const noexcept override { return group_->done(*channel_, ticket); }
    void wait(std::uint64_t ticket) override { group_->wait(*channel_, rank_, ticket, timeout_); }

   private:
    friend Local;

    Queue(std::shared_ptr<local::Group> group, int rank, std::chrono::nanoseconds timeout)
        : group_(std::move(group)), channel_(group_->open(rank)), rank_(rank), timeout_(timeout) {}

    bool unwinding() const noexcept { return std::uncaught_exceptions() > exceptions_; }

    std::shared_ptr<local::Group> group_;
    std::shared_ptr<local::Channel> channel_;
    int rank_;
    std::chrono::nanoseconds timeout_;
    local::RankCall call_;
    int exceptions_ = std::uncaught_exceptions();
  };

  int rank() const noexcept { return rank_; }
  int size() const noexcept { return group_->world(); }
  Host executor() const { return Host{}; }
  Queue queue(std::chrono::nanoseconds timeout) const { return Queue(group_, rank_, timeout); }

 private:
  std::shared_ptr<local::Group> group_;
  int rank_;
};

namespace local {

/// The errors of the ranks' functions, and which of them caused the others.
class Errors {
 public:
  /// Called in a catch block of the rank's thread.
  void caught(Group& group, int rank) {
    std::string what = "an exception that is no std::exception";
    bool passed_on = false;
    try {
      throw;
    } catch (const CommError& error) {
      what = error.what();
      passed_on = group.was_told(rank);
    } catch (const PeerError& error) {
      what = error.what();
      passed_on = true;
    } catch (const std::exception& error) {
      what = error.what();
    } catch (...) {
    }
    {
      const std::scoped_lock lock(mutex_);
      if (!first_ || (first_passed_on_ && !passed_on)) {
        first_ = std::current_exception();
        first_passed_on_ = passed_on;
      }
    }
    group.fail(message({"rank ", rank, " failed: ", what}), false, rank);
  }

  void rethrow() const {
    if (first_) std::rethrow_exception(first_);
  }

 private:
  std::mutex mutex_;
  std::exception_ptr first_;
  bool first_passed_on_ = false;
};

/// Calls f(rank) on one thread per rank, and joins them. Rethrows the error of the rank that failed first.
template <class F>
void run(Group& group, F f) {
  Errors errors;
  core::List<std::thread> threads;
  threads.reserve(static_cast<std::size_t>(group.world()));
  try {
    for (int r = 0; r < group.world(); ++r)
      threads.push_back(std::thread([&, r] {
        try {
          f(r);
          group.returned(r);
        } catch (...) {
          errors.caught(group, r);
        }
      }));
  } catch (...) {  // a thread could not be started: the running ranks must not wait for it
    group.fail("run_ranks could not start every rank", false, -1);
    for (std::thread& thread : threads) thread.join();
    throw;
  }
  for (std::thread& thread : threads) thread.join();
  group.stop();
  errors.rethrow();
}

}  // namespace local

/// Calls f(Local&) on n threads, one per rank, and joins them. Rethrows the error of the rank that failed first; waits
/// of the other ranks throw at once ("rank 2 failed: ..."). Throws OptionError if n < 1, and std::system_error if no
/// thread can be started.
template <class F>
void run_ranks(int n, F f, LocalOptions options = {}) {
  if (n < 1) throw OptionError(message({"run_ranks: there must be at least 1 rank, not ", n}));
  if (options.inline_bytes < 0) throw OptionError("run_ranks: inline_bytes must not be negative");
  const auto group = std::make_shared<local::Group>(n, options.inline_bytes);
  group->start();
  local::run(*group, [&](int rank) {
    Local comm(group, rank);
    f(comm);
  });
}

}  // namespace tessera
