// The collectives of a queue that are in flight: what the watchdog needs to name the one that is not done.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>
#include <string>

#include <tessera/comm/local/call.hpp>
#include <tessera/core/clock.hpp>
#include <tessera/core/message.hpp>
#include <tessera/core/ring.hpp>
#include <tessera/cuda/runtime/error.cuh>
#include <tessera/cuda/runtime/stream.cuh>

namespace tessera::nccl {

/// A collective that was enqueued. Its timeout counts from `began`: earlier time is this rank's own compute.
///
///     stream    --- after --- began | collective | done ---
struct Operation {
  Operation() = default;
  Operation(const Operation&) = delete;
  Operation& operator=(const Operation&) = delete;
  ~Operation() {
    if (began) cudaEventDestroy(began);
    if (done) cudaEventDestroy(done);
  }

  /// "all_gather of 4096 float in parts of 1024 (parameters of bucket 3, pass 2), operation 17"
  std::string text() const { return message({call.text(), ", operation ", number}); }

  local::Call call;
  std::uint64_t number = 0;
  bool waited_for = false;
  core::Clock::time_point since{};
  cudaEvent_t began = nullptr;
  cudaEvent_t done = nullptr;
};

/// Operations in order, oldest first.
class Operations {
 public:
  /// The next operation; the caller records its events. On the current device. Throws CudaError.
  Operation& begin(const local::Call& call) {
    if (next_ - oldest_ == ring_.capacity()) retire();
    Operation& operation = ring_.at(next_, oldest_);
    if (!operation.began) {
      cuda_check(cudaEventCreateWithFlags(&operation.began, cudaEventDisableTiming), "creating a CUDA event");
      cuda_check(cudaEventCreateWithFlags(&operation.done, cudaEventDisableTiming), "creating a CUDA event");
    }
    operation.call = call;
    operation.number = next_;
    operation.waited_for = false;
    return operation;
  }
  /// Call it when the events of the operation from begin() are recorded.
  void posted() noexcept { ++next_; }

  /// The oldest operation that is not done, or null. Throws CudaError: the device has failed.
  Operation* oldest() {
    retire();
    return oldest_ == next_ ? nullptr : &ring_[oldest_];
  }

  void forget() noexcept { oldest_ = next_; }

  static bool happened(cudaEvent_t event) {
    const device::WhileCapturing allowed;
    const cudaError_t result = cudaEventQuery(event);
    if (result != cudaErrorNotReady) cuda_check(result, "querying an event");
    return result == cudaSuccess;
  }

 private:
  void retire() {
    while (oldest_ != next_ && happened(ring_[oldest_].done)) ++oldest_;
  }

  core::Ring<Operation> ring_{64};
  std::uint64_t oldest_ = 0;
  std::uint64_t next_ = 0;
};

}  // namespace tessera::nccl
