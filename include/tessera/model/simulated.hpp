// A communicator on a network that is only arithmetic: data moves as Comm moves it, and its collectives take as long as
// a Network says. What hides behind what, on clusters that are not there, is measured with it on one machine.
//
//     rank 0     |--- joins ---|                 the last rank comes; the wire is busy with an earlier collective,
//     rank 1     |--- joins -------|             of whichever queue
//     wire       |== earlier ==========|== latency and bytes ==|
//     event                                                    done on every rank: the data has moved long since
#pragma once

#include <algorithm>
#include <chrono>
#include <concepts>
#include <mutex>
#include <span>
#include <thread>
#include <utility>
#include <vector>

#include <tessera/comm/communicator.hpp>
#include <tessera/model/network.hpp>
#include <tessera/core/clock.hpp>
#include <tessera/core/math.hpp>
#include <tessera/exec/event.hpp>

namespace tessera {

/// What the ranks of a Simulated share, made once for one run_ranks: each rank has one link, and collectives take turns
/// on it, whichever queue they are of, in the order in which their last ranks come. Each then has the whole bandwidth,
/// and ends on all ranks at once. It outlives its communicators and their events.
class Wire {
 public:
  /// Throws OptionError as Network::check does.
  Wire(const Network& network, int world) : network_(network), world_(world), queues_(ranks(network, world)) {}

  int world() const noexcept { return world_; }

  /// Seconds that all collectives so far take, those that are still to be waited for included.
  double busy_seconds() const {
    const std::scoped_lock lock(mutex_);
    return busy_;
  }

 private:
  template <class Comm>
  friend class Simulated;

  /// A collective that not all ranks have come to, or that is not over.
  struct Operation {
    std::uint64_t ticket = 0;
    int joined = 0;
    Clock::time_point end{};
  };
  using Line = std::vector<Operation>;  // the k-th queue of every rank

  static std::size_t ranks(const Network& network, int world) {
    network.validate(world);
    return static_cast<std::size_t>(world);
  }

  int open(int rank) {
    const std::scoped_lock lock(mutex_);
    const int line = queues_[to_size(rank)]++;
    while (std::ssize(lines_) <= line) {
      lines_.push_back(Line{});
      tracks_.emplace_back(to_size(world_));
    }
    return line;
  }

  void time_on(int line, int rank, Track* work) {
    const std::scoped_lock lock(mutex_);
    tracks_[to_size(line)][to_size(rank)] = work;
  }

  void join(int line, std::uint64_t ticket, Collective kind, Tag tag, double bytes) {
    const std::scoped_lock lock(mutex_);
    Line& operations = lines_[to_size(line)];
    while (!operations.empty() && operations[0].joined == world_ && operations[0].end <= Clock::now())
      operations.erase(operations.begin());
    Operation* operation = find(operations, ticket);
    if (!operation) {
      operations.push_back({ticket});
      operation = &operations.back();
    }
    if (++operation->joined < world_) return;
    const double seconds = network_.seconds(kind, bytes, world_);
    const Clock::time_point begin = std::max(free_, Clock::now());
    free_ = operation->end = later(begin, nanoseconds_of(seconds));
    busy_ += seconds;
    for (Track* const track : tracks_[to_size(line)])
      if (track) track->add({name(kind), tag.what, tag.index, tag.pass, begin, free_});
  }

  /// Of a rank that joined and whose epoch has ended without it.
  void withdraw(int line, std::uint64_t ticket) noexcept {
    const std::scoped_lock lock(mutex_);
    Line& operations = lines_[to_size(line)];
    Operation* const operation = find(operations, ticket);
    if (operation && --operation->joined == 0) operations.erase(operations.begin() + (operation - operations.data()));
  }

  /// When a collective that all ranks have joined is over.
  Clock::time_point end(int line, std::uint64_t ticket) const noexcept {
    const std::scoped_lock lock(mutex_);
    const Operation* const operation = find(lines_[to_size(line)], ticket);
    return operation ? operation->end : Clock::time_point{};
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
  std::vector<int> queues_;  // that each rank has made
  std::vector<Line> lines_;
  std::vector<std::vector<Track*>> tracks_;  // of a line, where each rank keeps a timeline
  Clock::time_point free_{};                 // of all collectives so far
  double busy_ = 0;
};

/// Does what Comm does, in the time that `wire` takes for it. An event is done when the data has moved and the time is
/// over; the processor is free until then. Time is taken as Network::seconds says of the whole buffer; nothing is
/// added to it, and posting takes none.
///
/// Errors are Comm's, as soon as Comm has them. What all ranks have joined is waited for even so, and the timeout
/// counts only until they have. A drop ends the time of what is in flight for the rank that drops. An `after` that has
/// not happened is waited for by the thread that posts. Ranks are threads of one process.
template <class Comm>
class Simulated {
  static_assert(std::same_as<typename Comm::Executor::Event, HostEvent>,
                "Simulated<Comm>: Comm must be a communicator on the host, such as Local");

 public:
  using Executor = typename Comm::Executor;
  static constexpr bool ordered = Comm::ordered;

  class Queue final : public Completion {
   public:
    using Event = HostEvent;

    Queue(const Queue&) = delete;
    Queue& operator=(const Queue&) = delete;
    ~Queue() { wire_->time_on(line_, rank_, nullptr); }  // the timeline may end here too

    template <class In, class Out>
    Event reduce_scatter(std::span<const In> in, std::span<Out> out, index_t part, float scale, Tag tag,
                         const Event& after = {}) {
      return post(Collective::reduce_scatter, tag, in.size_bytes(), after,
                  [&] { return queue_.reduce_scatter(in, out, part, scale, tag, Event{}); });
    }

    template <class T>
    Event all_gather(std::span<const T> in, std::span<T> out, index_t part, Tag tag, const Event& after = {}) {
      return post(Collective::all_gather, tag, out.size_bytes(), after,
                  [&] { return queue_.all_gather(in, out, part, tag, Event{}); });
    }

    template <class T>
    Event all_reduce(std::span<T> inout, Tag tag, const Event& after = {}) {
      return post(Collective::all_reduce, tag, inout.size_bytes(), after,
                  [&] { return queue_.all_reduce(inout, tag, Event{}); });
    }

    template <class T>
    Event all_to_all(std::span<const T> in, std::span<T> out, Tag tag, const Event& after = {}) {
      return post(Collective::all_to_all, tag, in.size_bytes(), after,
                  [&] { return queue_.all_to_all(in, out, tag, Event{}); });
    }

    template <class T>
    Event broadcast(std::span<T> inout, int root, Tag tag, const Event& after = {}) {
      return post(Collective::broadcast, tag, inout.size_bytes(), after,
                  [&] { return queue_.broadcast(inout, root, tag, Event{}); });
    }

    void drop() noexcept {
      queue_.drop();
      withdraw();
    }
    void leave() noexcept {
      communicator::leave(queue_);
      withdraw();
    }

    bool done(std::uint64_t ticket) const noexcept override {
      const Posted* const posted = find(ticket);
      return !posted || (posted->moved.done() && wire_->end(line_, ticket) <= Clock::now());
    }

    void wait(std::uint64_t ticket) override {
      const Posted* const posted = find(ticket);
      if (!posted) return;
      const Tag& tag = posted->tag;
      const Timed wait(done(ticket) ? nullptr : waits_, {"wait", tag.what, tag.index, tag.pass});
      posted->moved.wait();
      std::this_thread::sleep_until(wire_->end(line_, ticket));
    }

    /// A collective's span is its time on the wire, as it was foreseen: a drop does not shorten it.
    void time_on(const QueueTracks& tracks) {
      wire_->time_on(line_, rank_, tracks.work);
      waits_ = tracks.waits;
    }

   private:
    friend Simulated;

    struct Posted {
      std::uint64_t ticket = 0;
      Tag tag;
      Event moved;
    };

    // A ticket counts within an epoch, as the k-th drop of every rank ends the k-th; so all ranks have the same.
    static constexpr int epoch_bit = 40;
    static constexpr std::uint64_t epoch_of(std::uint64_t ticket) noexcept { return ticket >> epoch_bit; }

    Queue(Simulated& simulated, std::chrono::nanoseconds timeout)
        : queue_(simulated.comm_.queue(timeout)),
          wire_(simulated.wire_),
          rank_(simulated.rank()),
          line_(wire_->open(rank_)) {}

    // Joins the wire first: whoever sees the data moved finds its end there.
    template <class Call>
    Event post(Collective kind, Tag tag, std::size_t bytes, const Event& after, Call call) {
      after.wait();
      forget();
      posted_.push_back({next_, tag, {}});
      wire_->join(line_, next_, kind, tag, static_cast<double>(bytes));
      try {
        posted_.back().moved = call();
      } catch (...) {
        wire_->withdraw(line_, next_);
        posted_.pop_back();
        throw;
      }
      return {*this, next_++};
    }

    // Of what Comm withdraws, the first is kept: waits for it and for all behind it throw what Comm says of it.
    void withdraw() noexcept {
      Posted lost{};
      for (; !posted_.empty() && epoch_of(posted_.back().ticket) == epoch_of(next_); posted_.pop_back())
        if (!posted_.back().moved.done()) {
          lost = posted_.back();
          wire_->withdraw(line_, lost.ticket);
        }
      if (!lost.moved.done()) posted_.push_back(lost);
      next_ = (epoch_of(next_) + 1) << epoch_bit;
    }

    // What is over. What was lost in earlier epochs stays.
    void forget() noexcept {
      auto at = posted_.begin();
      while (at != posted_.end() && epoch_of(at->ticket) < epoch_of(next_)) ++at;
      while (at != posted_.end() && done(at->ticket)) at = posted_.erase(at);
    }

    /// What the ticket waits for; null if that is over.
    const Posted* find(std::uint64_t ticket) const noexcept {
      for (std::size_t i = posted_.size(); i-- > 0;)
        if (posted_[i].ticket <= ticket) return epoch_of(posted_[i].ticket) == epoch_of(ticket) ? &posted_[i] : nullptr;
      return nullptr;
    }

    typename Comm::Queue queue_;
    Wire* wire_;
    int rank_;
    int line_;
    Track* waits_ = nullptr;
    std::vector<Posted> posted_;  // in the order of tickets
    std::uint64_t next_ = 0;
  };

  /// Throws OptionError if the wire was made for another world.
  Simulated(Comm comm, Wire& wire) : comm_(std::move(comm)), wire_(&wire) {
    if (comm_.size() != wire.world())
      throw OptionError(
          message({"Simulated: the wire is made for ", wire.world(), " ranks, there are ", comm_.size()}));
  }

  int rank() const { return comm_.rank(); }
  int size() const { return comm_.size(); }
  Executor executor() const { return comm_.executor(); }
  Queue queue(std::chrono::nanoseconds timeout) { return Queue(*this, timeout); }

 private:
  Comm comm_;
  Wire* wire_;
};

}  // namespace tessera
