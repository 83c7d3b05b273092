// A host event: a position in a queue's order. Copying one is cheap and allocates nothing.
#pragma once

#include <cstdint>

namespace tessera {

/// What an event waits for: a queue that completes its work in order. The queue outlives its events.
class Completion {
 public:
  virtual bool done(std::uint64_t ticket) const noexcept = 0;
  /// Blocks until the work of `ticket` is done. Throws CommError if the work fails or the wait times out.
  virtual void wait(std::uint64_t ticket) = 0;

 protected:
  ~Completion() = default;
};

/// Work that was enqueued on a queue. A default-constructed event is complete.
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
