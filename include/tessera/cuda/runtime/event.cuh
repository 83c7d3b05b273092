// Events of streams: what orders the compute stream and the queues of collectives.
#pragma once

#include <cuda_runtime.h>

#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include <tessera/cuda/runtime/error.cuh>
#include <tessera/cuda/runtime/stream.cuh>
#include <tessera/exec/event.hpp>

namespace tessera {

namespace device {

/// An event, and where it was recorded last.
struct RecordedEvent {
  cudaEvent_t event = nullptr;
  cudaStream_t stream = nullptr;
  std::uint64_t capture = 0;  // 0: none
};

}  // namespace device

/// A place in a stream's order, to be copied freely. The default event is one that has happened. Whoever gave it out
/// outlives it.
///
/// Capture. An event that was captured orders what is captured with it. When that capture has ended nothing waits for
/// it: what follows is ordered by the graph's launches, as the stream that they are given orders it. An event of before
/// the capture is waited for by the host, once, while capturing: a graph cannot wait for what lies outside it.
class CudaEvent {
 public:
  CudaEvent() = default;
  explicit CudaEvent(const device::RecordedEvent& recorded, Completion* posted = nullptr,
                     std::uint64_t ticket = 0) noexcept
      : CudaEvent(recorded.event, posted, ticket) {
    recorded_ = &recorded;
  }
  /// Of an event that is never captured. posted: its wait(ticket) is called before the event is used, for one that is
  /// recorded only once all ranks have posted; and again when it has happened, for a queue whose events happen also
  /// when it is aborted.
  explicit CudaEvent(cudaEvent_t event, Completion* posted = nullptr, std::uint64_t ticket = 0) noexcept
      : event_(event), posted_(posted), ticket_(ticket) {}

  /// What `stream` is given from now on runs after this event. Never waits for a device. Throws CudaError, and what the
  /// rendezvous throws.
  void hold(cudaStream_t stream) const {
    if (posted_) posted_->wait(ticket_);
    if (!event_) return;
    if (captured()) {
      if (device::capture_of(recorded_->stream) != recorded_->capture) return;
    } else if (device::capture_of(stream) != 0) {
      return wait();
    }
    cuda_check(cudaStreamWaitEvent(stream, event_, 0), "making a stream wait for an event");
  }

  bool done() const {
    if (posted_ && !posted_->done(ticket_)) return false;
    if (!event_ || captured()) return true;
    const device::WhileCapturing allowed;
    const cudaError_t result = cudaEventQuery(event_);
    if (result != cudaErrorNotReady) cuda_check(result, "asking for an event");
    return result == cudaSuccess;
  }

  /// Blocks the host until it has happened. Throws CudaError, and what the rendezvous throws.
  void wait() const {
    if (posted_) posted_->wait(ticket_);
    if (!event_ || captured()) return;
    const device::WhileCapturing allowed;
    cuda_check(cudaEventSynchronize(event_), "waiting for an event");
    if (posted_) posted_->wait(ticket_);
  }

  /// Whether it was recorded in a capture.
  bool captured() const noexcept { return recorded_ && recorded_->capture != 0; }

  /// The runtime's event, which is recorded by now; null if it has happened. Throws what the rendezvous throws.
  cudaEvent_t after_rendezvous() const {
    if (posted_) posted_->wait(ticket_);
    return event_;
  }

 private:
  cudaEvent_t event_ = nullptr;
  const device::RecordedEvent* recorded_ = nullptr;
  Completion* posted_ = nullptr;
  std::uint64_t ticket_ = 0;
};

/// Events of one stream, used in turn, so that recording allocates nothing.
///
///     record()   e0  e1  e2  e3 | e0  e1 ...    An old handle that was overtaken stands for later work of the same
///                                               stream: waiting for it waits too long, never too little.
class EventRing {
 public:
  /// n: more than the handles in use at a time. On the current device. Throws CudaError.
  explicit EventRing(std::size_t n = 256) : EventRing(std::vector<device::RecordedEvent>(n)) {
    for (device::RecordedEvent& each : events_)
      cuda_check(cudaEventCreateWithFlags(&each.event, cudaEventDisableTiming), "making a CUDA event");
  }
  EventRing(EventRing&&) noexcept = default;
  EventRing& operator=(EventRing&& other) noexcept {
    std::swap(events_, other.events_);
    std::swap(next_, other.next_);
    return *this;
  }
  ~EventRing() {
    for (const device::RecordedEvent& each : events_)
      if (each.event) cudaEventDestroy(each.event);
  }

  /// The event of all work that `stream` was given so far. Always the same stream, unless each event is waited for
  /// before the next is recorded; one thread at a time. Throws CudaError.
  const device::RecordedEvent& record(cudaStream_t stream) {
    device::RecordedEvent& next = take();
    cuda_check(cudaEventRecord(next.event, stream), "recording an event");
    next.stream = stream;
    next.capture = device::capture_of(stream);
    return next;
  }

  /// The next one, for another thread to record.
  cudaEvent_t next() noexcept { return take().event; }

 private:
  explicit EventRing(std::vector<device::RecordedEvent> events) noexcept : events_(std::move(events)) {}

  device::RecordedEvent& take() noexcept {
    device::RecordedEvent& next = events_[next_];
    next_ = (next_ + 1) % events_.size();
    return next;
  }

  std::vector<device::RecordedEvent> events_;
  std::size_t next_ = 0;
};

}  // namespace tessera
