// Stream events, which order the compute stream and the queues of collectives.
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
  std::uint64_t capture = 0;  // id of the capture; 0: not captured
};

}  // namespace device

/// A position in a stream's order. Copyable. A default-constructed event is complete. The object that returned the
/// event must outlive it.
///
/// Capture. An event recorded in a capture orders work of the same capture. After the capture has ended, no wait has an
/// effect: the streams on which the graph is launched order it. If an event was recorded before the capture, the host
/// waits for it once while capturing, since a graph cannot wait for work outside it.
class CudaEvent {
 public:
  CudaEvent() = default;
  explicit CudaEvent(const device::RecordedEvent& recorded, Completion* posted = nullptr,
                     std::uint64_t ticket = 0) noexcept
      : CudaEvent(recorded.event, posted, ticket) {
    recorded_ = &recorded;
  }
  /// For an event that is never captured. posted: its wait(ticket) is called before the event is used, for an event
  /// that is recorded only when all ranks have posted. wait() calls it again after the event, for a queue whose events
  /// also complete when the queue is aborted.
  explicit CudaEvent(cudaEvent_t event, Completion* posted = nullptr, std::uint64_t ticket = 0) noexcept
      : event_(event), posted_(posted), ticket_(ticket) {}

  /// Makes later work on `stream` wait for this event. Never waits for a device, except for an event from before a
  /// capture. Throws CudaError, and what the rendezvous throws.
  void hold(cudaStream_t stream) const {
    if (posted_) posted_->wait(ticket_);
    if (!event_) return;
    if (captured()) {
      if (device::capture_of(recorded_->stream) != recorded_->capture) return;
    } else if (device::capture_of(stream) != 0) {
      return wait();
    }
    cuda_check(cudaStreamWaitEvent(stream, event_, 0), "enqueuing a wait for an event");
  }

  bool done() const {
    if (posted_ && !posted_->done(ticket_)) return false;
    if (!event_ || captured()) return true;
    const device::WhileCapturing allowed;
    const cudaError_t result = cudaEventQuery(event_);
    if (result != cudaErrorNotReady) cuda_check(result, "querying an event");
    return result == cudaSuccess;
  }

  /// Blocks the host until the event is complete. Throws CudaError, and what the rendezvous throws.
  void wait() const {
    if (posted_) posted_->wait(ticket_);
    if (!event_ || captured()) return;
    const device::WhileCapturing allowed;
    cuda_check(cudaEventSynchronize(event_), "waiting for an event");
    if (posted_) posted_->wait(ticket_);
  }

  /// Whether the event was recorded in a capture.
  bool captured() const noexcept { return recorded_ && recorded_->capture != 0; }

  /// The runtime's event, after it was recorded; null if complete. Throws what the rendezvous throws.
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

/// Events of one stream, reused in turn, so that recording allocates nothing.
///
///     record()   e0  e1  e2  e3 | e0  e1 ...    An old handle may refer to later work of the same stream: waiting for
///                                               it may take longer, but never ends too early.
class EventRing {
 public:
  /// n: more than the number of handles in use at a time. On the current device. Throws CudaError.
  explicit EventRing(std::size_t n = 256) : EventRing(std::vector<device::RecordedEvent>(n)) {
    for (device::RecordedEvent& each : events_)
      cuda_check(cudaEventCreateWithFlags(&each.event, cudaEventDisableTiming), "creating a CUDA event");
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

  /// The event of all work on `stream` so far. Use it for one stream only, unless each event is waited for before the
  /// next is recorded. Not thread-safe. Throws CudaError.
  const device::RecordedEvent& record(cudaStream_t stream) {
    device::RecordedEvent& next = take();
    cuda_check(cudaEventRecord(next.event, stream), "recording an event");
    next.stream = stream;
    next.capture = device::capture_of(stream);
    return next;
  }

  /// The next event, for another thread to record.
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
