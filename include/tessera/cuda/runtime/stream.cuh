// CUDA streams, and whether a stream is being captured into a graph.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>
#include <utility>

#include <tessera/cuda/runtime/device.cuh>
#include <tessera/cuda/runtime/error.cuh>

namespace tessera {

enum class StreamPriority { normal, high };

/// Owns a stream of the current device that does not synchronize with the legacy default stream. Pending blocks of a
/// high-priority stream are scheduled before those of other streams.
class CudaStream {
 public:
  /// Throws CudaError.
  explicit CudaStream(StreamPriority priority = StreamPriority::normal) {
    int least = 0, greatest = 0;
    cuda_check(cudaDeviceGetStreamPriorityRange(&least, &greatest), "creating a CUDA stream");
    cuda_check(cudaStreamCreateWithPriority(&stream_, cudaStreamNonBlocking,
                                            priority == StreamPriority::high ? greatest : least),
               "creating a CUDA stream");
  }
  CudaStream(CudaStream&& other) noexcept : stream_(std::exchange(other.stream_, nullptr)) {}
  CudaStream& operator=(CudaStream&& other) noexcept {
    std::swap(stream_, other.stream_);
    return *this;
  }
  /// The destructor does not wait: enqueued work still completes.
  ~CudaStream() {
    if (stream_) cudaStreamDestroy(stream_);
  }

  cudaStream_t get() const noexcept { return stream_; }

 private:
  cudaStream_t stream_ = nullptr;
};

namespace device {

/// The id of the capture in which `stream` takes part, or 0.
inline std::uint64_t capture_of(cudaStream_t stream) {
  cudaStreamCaptureStatus status = cudaStreamCaptureStatusNone;
  unsigned long long id = 0;
  cuda_check(cudaStreamGetCaptureInfo(stream, &status, &id), "querying whether a stream is captured");
  return status == cudaStreamCaptureStatusNone ? 0 : id;
}

/// Allows calls that the runtime would otherwise reject while a thread captures a graph, although they do not affect
/// the graph: allocating memory and querying events.
class WhileCapturing {
 public:
  WhileCapturing() noexcept { cudaThreadExchangeStreamCaptureMode(&mode_); }
  WhileCapturing(const WhileCapturing&) = delete;
  WhileCapturing& operator=(const WhileCapturing&) = delete;
  ~WhileCapturing() { cudaThreadExchangeStreamCaptureMode(&mode_); }

 private:
  cudaStreamCaptureMode mode_ = cudaStreamCaptureModeRelaxed;
};

}  // namespace device

}  // namespace tessera
