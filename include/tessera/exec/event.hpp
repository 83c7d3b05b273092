// An event of the host: a place in a queue's order. Copying one costs nothing and allocates nothing.
#pragma once

#include <cstdint>

namespace tessera {

/// What an event waits for: a queue that finishes its work in order. It outlives its events.
class Completion {
 public:
  virtual bool done(std::uint64_t ticket) const noexcept = 0;
  /// Blocks until the work of `ticket` is done. Throws CommError if it cannot be, or is not in time.
  virtual void wait(std::uint64_t ticket) = 0;

 protected:
  ~Completion() = default;
};

/// Work that a queue was given. The default event is one that has happened.
class HostEvent {
 public:
  HostEvent() = default;
  HostEvent(Completion& queue, std::uint64_t ticket) noexcept : queue_(&queue), ticket_(ticket) {}

  bool done() const noexcept { return !queue_ || queue_->done(ticket_); }

  void wait() const {
    if (queue_) queue_->wait(ticket_);
  }

 private:
  Completion* queue_ = nullptr;
  std::uint64_t ticket_ = 0;
};

}  // namespace tessera
