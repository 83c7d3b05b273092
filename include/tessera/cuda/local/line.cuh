// One queue of CudaLocal on the devices of its ranks: a stream a device, and the events that join them.
#pragma once

#include <cuda_runtime.h>

#include <cstddef>
#include <limits>
#include <memory>
#include <mutex>
#include <span>
#include <utility>
#include <vector>

#include <tessera/comm/local/group.hpp>
#include <tessera/cuda/collectives/collectives.cuh>
#include <tessera/cuda/runtime/device.cuh>
#include <tessera/cuda/runtime/event.cuh>
#include <tessera/cuda/runtime/stream.cuh>

namespace tessera::local {

/// Two ranks a device, two devices:
///
///     rank 0    ---after                                  done--->
///     rank 1    -------after                              done--->
///     device 0              \| start | kernel |           |/
///     device 1               |        \ kernel  | finished /
///     rank 2    ----after   /|                            done--->
///     rank 3    --after    /                              done--->
///
/// One at a time calls run(): the group sees to it.
class Line {
 public:
  /// devices: of the ranks. Throws CudaError.
  explicit Line(const std::vector<int>& devices) {
    for (std::size_t r = 0; r < devices.size(); ++r) place_on(devices[r]).ranks.push_back(static_cast<int>(r));
  }

  /// Events that are recorded behind a collective. Throws CudaError.
  EventRing make_ring() const {
    const device::Use use(places_[0]->device);
    return EventRing();
  }

  /// What is enqueued from now on runs behind the event.
  void hold(const CudaEvent& event) const {
    const device::Use use(places_[0]->device);
    event.hold(places_[0]->stream.get());
  }

  /// Enqueues one collective: what each device does, and whatever orders it. Throws CudaError; then part of it may be
  /// enqueued.
  template <class Enqueue>
  void run(std::span<const Ends> ranks, const Enqueue& enqueue) {
    const cudaStream_t first = places_[0]->stream.get();
    // Every device reads what all ranks hand in, and may write into any of it: nothing begins before all of them have
    // come to where they posted.
    for (const Ends& ends : ranks)
      if (ends.after)
        cuda_check(cudaStreamWaitEvent(first, static_cast<cudaEvent_t>(ends.after), 0), "waiting for a rank's event");
    const CudaEvent start = among_devices() ? CudaEvent(places_[0]->event.record(first)) : CudaEvent();
    for (std::size_t d = 0; d < places_.size(); ++d) {
      Place& place = *places_[d];
      const device::Use use(place.device);
      if (d > 0) start.hold(place.stream.get());
      enqueue(collectives::Share{.stream = place.stream.get(),
                                 .multiprocessors = place.multiprocessors,
                                 .ranks = {place.ranks.data(), place.ranks.size()},
                                 .device = static_cast<int>(d),
                                 .devices = static_cast<int>(places_.size())});
      if (d > 0) CudaEvent(place.event.record(place.stream.get())).hold(first);
    }
    // A rank's input is read by every device, and an all-reduce's result written by all: its event comes behind the
    // last of them, and so does the next collective.
    for (const Ends& ends : ranks)
      cuda_check(cudaEventRecord(static_cast<cudaEvent_t>(ends.done), first), "recording a rank's event");
  }

  /// Blocks until nothing that was enqueued is at work.
  void synchronize() const noexcept {
    for (const auto& place : places_) cudaStreamSynchronize(place->stream.get());
  }

 private:
  struct Place {
    explicit Place(int number) : Place(number, device::Use(number)) {}
    Place(int number, const device::Use&) : device(number), multiprocessors(device::multiprocessors(number)) {}

    int device;
    int multiprocessors;
    CudaStream stream{StreamPriority::high};
    EventRing event{1};
    std::vector<int> ranks;
  };

  Place& place_on(int device) {
    for (const auto& place : places_)
      if (place->device == device) return *place;
    places_.push_back(std::make_shared<Place>(device));
    return *places_.back();
  }

  bool among_devices() const noexcept { return places_.size() > 1; }

  std::vector<std::shared_ptr<Place>> places_;
};

/// A portion of DevicePortions: the first rank's is the whole collective, for all devices.
template <auto enqueue>
void on_devices(const Call& call, const std::vector<Ends>& ranks, int rank) {
  if (rank > 0) return;
  const std::span<const Ends> all(ranks.data(), ranks.size());
  static_cast<Line*>(call.context)->run(all, [&](const collectives::Share& share) { enqueue(call, all, share); });
}

/// The rank that comes last enqueues kernels.
struct DevicePortions {
  template <class In, class Out>
  static constexpr Portion reduce_scatter = on_devices<collectives::reduce_scatter<In, Out>>;
  template <class T>
  static constexpr Portion all_gather = on_devices<collectives::all_gather<T>>;
  template <class T>
  static constexpr Portion all_reduce = on_devices<collectives::all_reduce<T>>;
  template <class T>
  static constexpr Portion all_to_all = on_devices<collectives::all_to_all<T>>;
  template <class T>
  static constexpr Portion broadcast = on_devices<collectives::broadcast<T>>;
};

/// What the ranks of one CudaLocal share: the rendezvous of their threads, in which an operation is done when it is
/// enqueued, and a line a queue.
class DeviceGroup {
 public:
  /// devices: of the ranks.
  explicit DeviceGroup(std::vector<int> devices)
      : threads(static_cast<int>(devices.size()), std::numeric_limits<index_t>::max()),
        devices_(std::move(devices)),
        opened_(devices_.size()) {}

  const std::vector<int>& devices() const noexcept { return devices_; }
  int device_of(int rank) const noexcept { return devices_[static_cast<std::size_t>(rank)]; }

  /// The line of the rank's next queue: the k-th of every rank are one.
  std::shared_ptr<Line> open(int rank) {
    const std::scoped_lock lock(mutex_);
    const std::size_t index = opened_[static_cast<std::size_t>(rank)]++;
    while (lines_.size() <= index) lines_.push_back({std::make_shared<Line>(devices_)});
    return lines_[index].line;
  }

  /// A rank has left the line, which ends with the last one.
  void close(const std::shared_ptr<Line>& line) noexcept {
    const std::scoped_lock lock(mutex_);
    for (Opened& each : lines_)
      if (each.line == line && ++each.left == threads.world()) each.line = {};
  }

  Group threads;

 private:
  struct Opened {
    std::shared_ptr<Line> line;
    int left = 0;
  };

  std::mutex mutex_;
  std::vector<int> devices_;
  std::vector<std::size_t> opened_;
  std::vector<Opened> lines_;
};

}  // namespace tessera::local
