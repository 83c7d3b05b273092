// Time on the device between two positions in a stream's order. Time on the host does not count.
#pragma once

#include <cuda_runtime.h>

#include <tessera/cuda/runtime/error.cuh>

class Stopwatch {
 public:
  /// Measures on a stream of the current device, which must outlive this. Throws tessera::CudaError.
  explicit Stopwatch(cudaStream_t stream) : stream_(stream) {
    for (cudaEvent_t* event : {&begin_, &end_}) tessera::cuda_check(cudaEventCreate(event), "creating a CUDA event");
  }
  Stopwatch(const Stopwatch&) = delete;
  Stopwatch& operator=(const Stopwatch&) = delete;
  ~Stopwatch() {
    for (const cudaEvent_t event : {begin_, end_}) cudaEventDestroy(event);
  }

  void begin() { record(begin_); }
  void end() { record(end_); }
  /// The time between the two. Blocks until the stream has reached the second.
  double seconds() const {
    float milliseconds = 0;
    tessera::cuda_check(cudaEventSynchronize(end_), "waiting for an event");
    tessera::cuda_check(cudaEventElapsedTime(&milliseconds, begin_, end_), "asking for the time between two events");
    return 1e-3 * static_cast<double>(milliseconds);
  }

 private:
  void record(cudaEvent_t event) { tessera::cuda_check(cudaEventRecord(event, stream_), "recording an event"); }

  cudaStream_t stream_;
  cudaEvent_t begin_ = nullptr;
  cudaEvent_t end_ = nullptr;
};
