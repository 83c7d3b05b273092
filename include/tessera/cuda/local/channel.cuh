// One queue of CudaLocal on its ranks' devices: a stream per device, and the events that order the streams.
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

/// An example of two devices with two ranks each:
///
///     rank 0    ---after                                  done--->
///     rank 1    -------after                              done--->
///     device 0              \| start | kernel |           |/
///     device 1               |        \ kernel  | finished /
///     rank 2    ----after   /|                            done--->
///     rank 3    --after    /                              done--->
///
/// One thread at a time calls run(); the group ensures this.
class DeviceChannel {
 public:
  /// devices: of each rank. Throws CudaError.
  explicit DeviceChannel(const std::vector<int>& devices) {
    for (std::size_t r = 0; r < devices.size(); ++r) place_on(devices[r]).ranks.push_back(static_cast<int>(r));
  }

  /// A ring for the events that are recorded after collectives. Throws CudaError.
  EventRing make_ring() const {
    const device::Use use(places_[0]->device);
    return EventRing();
  }

  /// Later work waits for the event.
  void hold(const CudaEvent& event) const {
    const device::Use use(places_[0]->device);
    event.hold(places_[0]->stream.get());
  }

  /// Enqueues one collective: the kernels of all devices and the events that order them. Throws CudaError; part of the
  /// collective may then be enqueued.
  template <class Enqueue>
  void run(std::span<const RankEvents> ranks, const Enqueue& enqueue) {
    const cudaStream_t first = places_[0]->stream.get();
    // Every device reads the input of all ranks and may write to the output of any rank. So no device starts before the
    // `after` events of all ranks.
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
    // Every device reads a rank's input, and every device writes a part of an all-reduce's result. So a rank's event,
    // and the next collective, wait for the last device.
    for (const RankEvents& events : ranks)
      cuda_check(cudaEventRecord(static_cast<cudaEvent_t>(events.done), first), "recording a rank's event");
  }

  /// Blocks until all enqueued work is done.
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

/// The task of a collective: the last rank to post enqueues the kernels.
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

/// The state that the ranks of one CudaLocal share: the rendezvous of their threads, where an operation counts as done
/// when it is enqueued, and one DeviceChannel per queue.
class DeviceGroup {
 public:
  /// devices: of each rank.
  explicit DeviceGroup(std::vector<int> devices)
      : threads(static_cast<int>(devices.size()), std::numeric_limits<index_t>::max()),
        devices_(std::move(devices)),
        opened_(devices_.size()) {}

  const std::vector<int>& devices() const noexcept { return devices_; }
  int device_of(int rank) const noexcept { return devices_[static_cast<std::size_t>(rank)]; }

  /// The channel of the rank's next queue. The k-th queues of all ranks share one channel.
  std::shared_ptr<DeviceChannel> open(int rank) {
    const std::scoped_lock lock(mutex_);
    const std::size_t index = opened_[static_cast<std::size_t>(rank)]++;
    while (channels_.size() <= index) channels_.push_back({std::make_shared<DeviceChannel>(devices_)});
    return channels_[index].channel;
  }

  /// Called when a rank leaves the channel. The channel is destroyed after the last rank has left.
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
