// One queue of CudaLocal on the devices of its ranks: a stream a device, and the events that join them.
#pragma once

#include <cuda_runtime.h>

#include <array>
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
class DeviceChannel {
 public:
  /// devices: of the ranks. Throws CudaError.
  explicit DeviceChannel(const std::vector<int>& devices) {
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
  void run(std::span<const RankEvents> ranks, const Enqueue& enqueue) {
    const cudaStream_t first = places_[0]->stream.get();
    // Every device reads what all ranks hand in, and may write into any of it: nothing begins before all of them have
    // come to where they posted.
    for (const RankEvents& events : ranks)
      if (events.after)
        cuda_check(cudaStreamWaitEvent(first, static_cast<cudaEvent_t>(events.after), 0), "waiting for a rank's event");
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
    for (const RankEvents& events : ranks)
      cuda_check(cudaEventRecord(static_cast<cudaEvent_t>(events.done), first), "recording a rank's event");
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

/// The first rank's task is the whole collective, for all devices and, over groups or peers, for each set of ranks.
template <auto enqueue>
void on_devices(const Operation& operation, int rank) {
  if (rank > 0) return;
  static_cast<DeviceChannel*>(operation.call.context)->run(operation.events, [&](const collectives::Share& share) {
    const core::Groups groups = operation.groups();
    const Ranks over = operation.call.over;
    for (int first = 0; first < groups.world; ++first) {
      if (groups.first(over, first) != first) continue;
      std::array<int, collectives::most_ranks> here{};  // those of the set on this device
      std::size_t count = 0;
      for (const int r : share.ranks)
        if (groups.first(over, r) == first) here[count++] = groups.index(over, r);
      collectives::Share of_set = share;
      of_set.ranks = std::span<const int>(here).first(count);
      operation.for_each_piece(first, [&](const PieceOfCall& piece, const EndsOfRanks& set) {
        std::array<Ends, collectives::most_ranks> ends{};
        for (int r = 0; r < set.size(); ++r) ends[to_size(r)] = set[r];
        enqueue(piece, std::span<const Ends>(ends).first(to_size(set.size())), of_set);
      });
    }
  });
}

/// The rank that comes last enqueues kernels.
template <CollectiveCall C>
constexpr RankTask device_task() noexcept {
  using In = typename C::Input;
  if constexpr (C::kind == Collective::reduce_scatter)
    return on_devices<collectives::reduce_scatter<In, typename C::Output>>;
  else if constexpr (C::kind == Collective::all_gather)
    return on_devices<collectives::all_gather<In>>;
  else if constexpr (C::kind == Collective::all_reduce)
    return on_devices<collectives::all_reduce<In>>;
  else if constexpr (C::kind == Collective::all_to_all)
    return on_devices<collectives::all_to_all<In>>;
  else
    return on_devices<collectives::broadcast<In>>;
}

/// What the ranks of one CudaLocal share: the rendezvous of their threads, in which an operation is done when it is
/// enqueued, and a DeviceChannel per queue.
class DeviceGroup {
 public:
  /// devices: of the ranks.
  explicit DeviceGroup(std::vector<int> devices)
      : threads(static_cast<int>(devices.size()), std::numeric_limits<index_t>::max()),
        devices_(std::move(devices)),
        opened_(devices_.size()) {}

  const std::vector<int>& devices() const noexcept { return devices_; }
  int device_of(int rank) const noexcept { return devices_[static_cast<std::size_t>(rank)]; }

  /// The channel of the rank's next queue: the k-th of every rank are one.
  std::shared_ptr<DeviceChannel> open(int rank) {
    const std::scoped_lock lock(mutex_);
    const std::size_t index = opened_[static_cast<std::size_t>(rank)]++;
    while (channels_.size() <= index) channels_.push_back({std::make_shared<DeviceChannel>(devices_)});
    return channels_[index].channel;
  }

  /// A rank has left the channel, which ends with the last one.
  void close(const std::shared_ptr<DeviceChannel>& channel) noexcept {
    const std::scoped_lock lock(mutex_);
    for (Opened& each : channels_)
      if (each.channel == channel && ++each.left == threads.world()) each.channel = {};
  }

  Group threads;

 private:
  struct Opened {
    std::shared_ptr<DeviceChannel> channel;
    int left = 0;
  };

  std::mutex mutex_;
  std::vector<int> devices_;
  std::vector<std::size_t> opened_;
  std::vector<Opened> channels_;
};

}  // namespace tessera::local
