// What the runtime's functions share: the lock, a thread's last error, the current device, finding a stream by its
// handle, and enqueuing an operation.
#pragma once

#include <algorithm>
#include <utility>

#include "capture.hpp"

namespace emulated {

inline cudaError_t& last_error() {
  thread_local cudaError_t error = cudaSuccess;
  return error;
}
inline int& current_device() {
  thread_local int device = 0;
  return device;
}

template <class F>
cudaError_t call(const F& f) {
  const Lock lock(machine().mutex);
  cudaError_t error = machine().broken;
  if (error == cudaSuccess) error = f();
  if (error != cudaSuccess) last_error() = error;
  return error;
}

inline StreamPtr make_stream(int device, bool blocking, bool legacy = false) {
  auto stream = std::make_shared<Stream>();
  stream->device = device, stream->blocking = blocking, stream->legacy = legacy;
  machine().streams.push_back(stream);
  return stream;
}

// Null for an invalid handle. The null handle is the current device's legacy stream.
inline StreamPtr find(cudaStream_t handle) {
  for (const auto& stream : machine().streams) {
    if (stream->destroyed) continue;
    if (handle == nullptr ? stream->legacy && stream->device == current_device() : stream.get() == handle)
      return stream;
  }
  return handle == nullptr ? make_stream(current_device(), false, true) : nullptr;
}

inline bool is_event(cudaEvent_t event) { return machine().events.count(event) != 0; }

// `after` continues when all current work of `before` is done.
inline void order(Stream& before, Stream& after) {
  if (before.operations.empty()) return;
  const auto moment = std::make_shared<Moment>();
  push(before, record_of(moment));
  push(after, wait_of(moment));
}

template <class F>
cudaError_t for_blocking_streams(int device, const F& f) {
  for (const auto& stream : machine().streams) {
    if (!stream->blocking || stream->device != device) continue;
    if (stream->capture) return spoil(stream->capture, cudaErrorStreamCaptureImplicit);
    f(*stream);
  }
  return cudaSuccess;
}

// Enqueues an operation. An operation on the legacy stream runs after all work of blocking streams so far, and before
// all of their later work.
inline cudaError_t enqueue(Stream& stream, Operation operation) {
  if (stream.capture) return capture_operation(stream, std::move(operation));
  if (!stream.legacy) {
    push(stream, std::move(operation));
    return cudaSuccess;
  }
  if (refuse_in_capture() != cudaSuccess) return cudaErrorStreamCaptureImplicit;
  const cudaError_t error = for_blocking_streams(stream.device, [&](Stream& other) { order(other, stream); });
  if (error != cudaSuccess) return error;
  push(stream, std::move(operation));
  return for_blocking_streams(stream.device, [&](Stream& other) { order(stream, other); });
}

// The current end of the stream; for a capturing stream its last nodes.
inline cudaError_t record(Stream& stream, std::shared_ptr<Moment>& moment) {
  moment = std::make_shared<Moment>();
  if (!stream.capture) return enqueue(stream, record_of(moment));
  if (stream.capture->invalid) return cudaErrorStreamCaptureInvalidated;
  moment->capture = stream.capture;
  moment->nodes = stream.tails;
  return cudaSuccess;
}

// Later work of `stream` waits for `moment`.
inline cudaError_t wait_for(Stream& stream, const std::shared_ptr<Moment>& moment) {
  if (stream.capture || moment->capture) return capture_wait(stream, moment);
  return moment->happened ? cudaSuccess : enqueue(stream, wait_of(moment));
}

}  // namespace emulated
