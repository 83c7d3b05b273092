// The base classes of communicator decorators. They forward all members, required and optional, to the queue and the
// communicator below. A decorator derives from both and overrides what it changes.
#pragma once

#include <chrono>
#include <utility>

#include <tessera/comm/communicator.hpp>

namespace tessera {

/// Forwards everything to Below, a queue. An overriding post(call, after) hides both overloads: accept every argument
/// for which Posts<Below, ...> holds, or spans of calls are posted one by one.
template <class Below>
class QueueDecorator {
 public:
  using Event = typename Below::Event;

  /// Constructs Below in place, because queues do not move.
  template <class Comm>
  QueueDecorator(Comm& comm, std::chrono::nanoseconds timeout) : below_(comm.queue(timeout)) {}

  template <class Call>
    requires Posts<Below, Call>
  Event post(const Call& call, const Event& after = {}) {
    return below_.post(call, after);
  }
  void drop() noexcept { below_.drop(); }
  void detach() noexcept { communicator::detach(below_); }

  void time_on(const QueueTracks& tracks)
    requires TimedQueue<Below>
  {
    below_.time_on(tracks);
  }
  template <class Stream>
    requires StreamJoiningQueue<Below, Stream>
  void join(const Stream& producer) {
    below_.join(producer);
  }

 protected:
  Below& below() noexcept { return below_; }

 private:
  Below below_;
};

/// Forwards everything to Comm, except queue(timeout), which the decorator defines.
template <class Comm>
class CommunicatorDecorator {
 public:
  using Executor = typename Comm::Executor;
  static constexpr bool ordered = Comm::ordered;
  static constexpr bool has_groups = GroupCommunicator<Comm>;

  template <class In, class Out>
  static constexpr bool needs_workspace = tessera::needs_workspace<Comm, In, Out>();

  explicit CommunicatorDecorator(Comm comm) : below_(std::move(comm)) {}

  int rank() const { return below_.rank(); }
  int size() const { return below_.size(); }
  Executor executor() const { return below_.executor(); }

 protected:
  Comm& below() noexcept { return below_; }

 private:
  Comm below_;
};

}  // namespace tessera
