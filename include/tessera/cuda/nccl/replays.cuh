// Collectives in CUDA graphs: the device records which collective a replay is executing, since events give no
// information about graph launches.
#pragma once

#include <cuda_runtime.h>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <new>
#include <string>
#include <utility>
#include <vector>

#include <tessera/comm/local/call.hpp>
#include <tessera/core/clock.hpp>
#include <tessera/core/message.hpp>
#include <tessera/cuda/runtime/device.cuh>
#include <tessera/cuda/runtime/error.cuh>
#include <tessera/cuda/runtime/stream.cuh>

namespace tessera::nccl {

/// In pinned memory; written by the device during replays.
struct ReplayMark {
  unsigned long long turns = 0;  ///< odd: a collective has begun and is not done
  unsigned long long at = 0;     ///< its index, in the order of capture
};

// Written by one thread at a time, bypassing the device's caches.
template <class Mark>
__device__ void turn(Mark* mark) {
  __stwt(&mark->turns, __ldcv(&mark->turns) + 1);
}
template <class Mark>
__global__ void begin_replayed(Mark* mark, unsigned long long at) {
  __stwt(&mark->at, at);
  __threadfence_system();
  turn(mark);
}
template <class Mark>
__global__ void end_replayed(Mark* mark) {
  turn(mark);
}

/// The replays on one stream, which runs graphs one at a time.
///
///     captured    begin | collective | end | begin | collective | end | ...
class Replays {
 public:
  /// On the current device. Throws CudaError.
  Replays() {
    const device::WhileCapturing allowed;
    void* memory = nullptr;
    cuda_check(cudaHostAlloc(&memory, sizeof(ReplayMark), cudaHostAllocDefault), "allocating pinned memory");
    mark_ = new (memory) ReplayMark;
  }
  Replays(const Replays&) = delete;
  Replays& operator=(const Replays&) = delete;
  ~Replays() {
    const device::WhileCapturing allowed;
    cudaFreeHost(mark_);
  }

  /// Call begin() before and end() after a captured collective, on the captured stream. Throws CudaError.
  void begin(const local::Call& call, cudaStream_t stream) {
    device::launch(begin_replayed<ReplayMark>, 1, 1, stream, mark_, static_cast<unsigned long long>(calls_.size()));
    calls_.push_back(call);
  }
  void end(cudaStream_t stream) { device::launch(end_replayed<ReplayMark>, 1, 1, stream, mark_); }

  /// The collective that a replay has been executing for at least `timeout`, measured between calls of this function;
  /// empty if there is none.
  std::string overdue(std::chrono::nanoseconds timeout) {
    const unsigned long long turns = std::atomic_ref(mark_->turns).load();
    const core::Clock::time_point now = core::Clock::now();
    if (turns % 2 == 0 || turns != std::exchange(turns_, turns)) {
      since_ = now;
      return {};
    }
    if (now < core::later(since_, timeout)) return {};
    return message({calls_.at(std::atomic_ref(mark_->at).load()).text(), ", replayed in a graph"});
  }

 private:
  ReplayMark* mark_ = nullptr;
  std::vector<local::Call> calls_;
  unsigned long long turns_ = 0;
  core::Clock::time_point since_{};
};

}  // namespace tessera::nccl
