// A communicator with a simulated network: Comm moves the data, and each collective takes the time that a Network
// gives. It measures on one machine how communication and computation overlap on a cluster.
//
//     rank 0     |--- joins ---|                 the last rank joins; the wire is busy with an earlier collective,
//     rank 1     |--- joins -------|             of the same or another queue
//     wire       |== earlier ==========|== latency and bytes ==|
//     event                                                    done on every rank; the data was moved earlier
#pragma once

#include <algorithm>
#include <chrono>
#include <concepts>
#include <mutex>
#include <span>
#include <thread>
#include <utility>
#include <vector>

#include <tessera/comm/decorators/decorator.hpp>
#include <tessera/model/network.hpp>
#include <tessera/core/clock.hpp>
#include <tessera/core/math.hpp>
#include <tessera/exec/event.hpp>

namespace tessera {

/// Shared by the ranks of a Simulated, created once per run_ranks. Each rank has one link. The collectives of all
/// queues use it one after another, in the order in which their last ranks join. Each has the full bandwidth and ends
/// on all ranks at the same time. The wire must outlive its communicators and their events.
class Wire {
 public:
  /// Throws OptionError as Network::validate does.
  Wire(const Network& network, int world) : network_(network), world_(world), queues_(ranks(network, world)) {}

  int world() const noexcept { return world_; }

  /// The seconds of all collectives so far, including those that are not done yet.
  double busy_seconds() const {
    const std::scoped_lock lock(mutex_);
    return busy_;
  }

 private:
  template <class Comm>
  friend class Simulated;

  double seconds(Collective kind, double bytes, core::Groups groups, Ranks over) const {
    return network_.seconds(kind, bytes, groups, over);
  }

  /// A collective that not all ranks have come to, or that is not over.
  struct Operation {
    std::uint64_t ticket = 0;
    int joined = 0;
    core::Clock::time_point end{};
  };
  using Pending = std::vector<Operation>;  // of queue k of every rank

  static std::size_t ranks(const Network& network, int world) {
    network.validate(world);
    return static_cast<std::size_t>(world);
  }

  int open(int rank) {
    const std::scoped_lock lock(mutex_);
    const int queue = queues_[to_size(rank)]++;
    while (std::ssize(pending_) <= queue) {
      pending_.push_back(Pending{});
      tracks_.emplace_back(to_size(world_));
    }
    return queue;
  }

  void time_on(int queue, int rank, Track* work) {
    const std::scoped_lock lock(mutex_);
    tracks_[to_size(queue)][to_size(rank)] = work;
  }

  void join(int queue, std::uint64_t ticket, Collective kind, Tag tag, double seconds) {
    const std::scoped_lock lock(mutex_);
    Pending& operations = pending_[to_size(queue)];
    while (!operations.empty() && operations[0].joined == world_ && operations[0].end <= core::Clock::now())
      operations.erase(operations.begin());
    Operation* operation = find(operations, ticket);
    if (!operation) {
      operations.push_back({ticket});
      operation = &operations.back();
    }
    if (++operation->joined < world_) return;
    const core::Clock::time_point begin = std::max(free_, core::Clock::now());
    free_ = operation->end = core::later(begin, core::nanoseconds_of(seconds));
    busy_ += seconds;
    for (Track* const track : tracks_[to_size(queue)])
      if (track) track->add({name(kind), tag.what, tag.index, tag.pass, begin, free_});
  }

  /// Removes a rank that joined and whose epoch ended before all ranks joined.
  void withdraw(int queue, std::uint64_t ticket) noexcept {
    const std::scoped_lock lock(mutex_);
    Pending& operations = pending_[to_size(queue)];
    Operation* const operation = find(operations, ticket);
    if (operation && --operation->joined == 0) operations.erase(operations.begin() + (operation - operations.data()));
  }

  /// The time at which a collective ends that all ranks have joined.
  core::Clock::time_point end(int queue, std::uint64_t ticket) const noexcept {
    const std::scoped_lock lock(mutex_);
    const Operation* const operation = find(pending_[to_size(queue)], ticket);
    return operation ? operation->end : core::Clock::time_point{};
  }

  template <class Operations>
  static auto find(Operations& operations, std::uint64_t ticket) noexcept -> decltype(operations.data()) {
    for (auto& operation : operations)
      if (operation.ticket == ticket) return &operation;
    return nullptr;
  }

  const Network network_;
  const int world_;
  mutable std::mutex mutex_;
  std::vector<int> queues_;  // the number of queues that each rank has created
  std::vector<Pending> pending_;
  std::vector<std::vector<Track*>> tracks_;  // by queue and rank: the rank's track, or null
  core::Clock::time_point free_{};                 // the end of all collectives so far
  double busy_ = 0;
};

/// Does what Comm does, in the time that `wire` gives. An event is done when the data has moved and the time has
/// passed; until then the processor is free. The time is Network::seconds for the whole buffer, without overhead;
/// posting takes no time.
///
/// Errors of Comm are thrown as soon as Comm throws them. The timeout applies only until all ranks have joined; the
/// simulated time is always waited for. drop() ends the time of collectives in flight for the calling rank. The posting
/// thread waits for an `after` that is not done. Ranks are threads of one process.
template <class Comm>
class Simulated : public CommunicatorDecorator<Comm> {
  static_assert(std::same_as<typename Comm::Executor::Event, HostEvent>,
                "Simulated<Comm>: Comm must be a communicator on the host, such as Local");

 public:
  class Queue final : public Completion, public QueueDecorator<typename Comm::Queue> {
    using Below = QueueDecorator<typename Comm::Queue>;

   public:
    using Event = HostEvent;

    Queue(const Queue&) = delete;
    Queue& operator=(const Queue&) = delete;
    ~Queue() { wire_->time_on(index_, rank_, nullptr); }  // the timeline may be destroyed next

    template <CollectiveCall Call>
      requires Posts<typename Comm::Queue, Call>
    Event post(const Call& call, const Event& after = {}) {
      index_t elements = 0;
      for (const auto& piece : call.pieces) elements += vector_elements<Call>(piece);
      const auto bytes = static_cast<double>(elements * element_type<typename Call::Input>().bytes);
      check_call(call, wire_->world(), rank_);
      return post(Call::kind, call.tag, wire_->seconds(Call::kind, bytes, call.groups(wire_->world()), call.over), after,
                  [&] { return Below::post(call); });
    }
    template <CollectiveCall Call>
    Event post(std::span<const Call> calls, const Event& after = {}) {
      return communicator::post_each(*this, calls, after);
    }

    void drop() noexcept {
      Below::drop();
      withdraw();
    }
    void detach() noexcept {
      Below::detach();
      withdraw();
    }

    bool done(std::uint64_t ticket) const noexcept override {
      const Posted* const posted = find(ticket);
      return !posted || (posted->moved.done() && wire_->end(index_, ticket) <= core::Clock::now());
    }

    void wait(std::uint64_t ticket) override {
      const Posted* const posted = find(ticket);
      if (!posted) return;
      const Tag& tag = posted->tag;
      const Timed wait(done(ticket) ? nullptr : waits_, {"wait", tag.what, tag.index, tag.pass});
      posted->moved.wait();
      std::this_thread::sleep_until(wire_->end(index_, ticket));
    }

    /// A collective's span is its planned time on the wire; a drop does not shorten it.
    void time_on(const QueueTracks& tracks) {
      wire_->time_on(index_, rank_, tracks.work);
      waits_ = tracks.waits;
    }

   private:
    friend Simulated;

    struct Posted {
      std::uint64_t ticket = 0;
      Tag tag;
      Event moved;
    };

    // A ticket counts within an epoch. The k-th drop of each rank ends its epoch k, so tickets are the same on all
    // ranks.
    static constexpr int epoch_bit = 40;
    static constexpr std::uint64_t epoch_of(std::uint64_t ticket) noexcept { return ticket >> epoch_bit; }

    Queue(Simulated& simulated, std::chrono::nanoseconds timeout)
        : Below(simulated.below(), timeout),
          wire_(simulated.wire_),
          rank_(simulated.rank()),
          index_(wire_->open(rank_)) {}

    // Joins the wire first: when another rank sees that the data has moved, the end is known.
    template <class PostBelow>
    Event post(Collective kind, const Tag& tag, double seconds, const Event& after, const PostBelow& post_below) {
      after.wait();
      forget();
      posted_.push_back({next_, tag, {}});
      wire_->join(index_, next_, kind, tag, seconds);
      try {
        posted_.back().moved = post_below();
      } catch (...) {
        wire_->withdraw(index_, next_);
        posted_.pop_back();
        throw;
      }
      return {*this, next_++};
    }

    // Keeps the first collective that Comm canceled: waits for it and for later ones throw Comm's error.
    void withdraw() noexcept {
      Posted lost{};
      for (; !posted_.empty() && epoch_of(posted_.back().ticket) == epoch_of(next_); posted_.pop_back())
        if (!posted_.back().moved.done()) {
          lost = posted_.back();
          wire_->withdraw(index_, lost.ticket);
        }
      if (!lost.moved.done()) posted_.push_back(lost);
      next_ = (epoch_of(next_) + 1) << epoch_bit;
    }

    // Removes collectives that are done. Those canceled in earlier epochs stay.
    void forget() noexcept {
      auto at = posted_.begin();
      while (at != posted_.end() && epoch_of(at->ticket) < epoch_of(next_)) ++at;
      while (at != posted_.end() && done(at->ticket)) at = posted_.erase(at);
    }

    /// The collective to wait for; null if it is done.
    const Posted* find(std::uint64_t ticket) const noexcept {
      for (std::size_t i = posted_.size(); i-- > 0;)
        if (posted_[i].ticket <= ticket) return epoch_of(posted_[i].ticket) == epoch_of(ticket) ? &posted_[i] : nullptr;
      return nullptr;
    }

    Wire* wire_;
    int rank_;
    int index_;
    Track* waits_ = nullptr;
    std::vector<Posted> posted_;  // in the order of tickets
    std::uint64_t next_ = 0;
  };

  /// Throws OptionError if the wire was created for another world size.
  Simulated(Comm comm, Wire& wire) : CommunicatorDecorator<Comm>(std::move(comm)), wire_(&wire) {
    if (this->size() != wire.world())
      throw OptionError(
          message({"Simulated: the wire is made for ", wire.world(), " ranks, there are ", this->size()}));
  }

  Queue queue(std::chrono::nanoseconds timeout) { return Queue(*this, timeout); }

 private:
  Wire* wire_;
};

}  // namespace tessera
