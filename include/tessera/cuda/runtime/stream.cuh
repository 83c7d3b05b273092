// Streams, and whether their work is being captured into a graph.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>
#include <utility>

#include <tessera/cuda/runtime/device.cuh>
#include <tessera/cuda/runtime/error.cuh>

namespace tessera {

enum class StreamPriority { normal, high };

/// Owns a stream of the current device that does not wait for the legacy default stream. The blocks of a stream of high
/// priority are placed before those of others that wait.
class CudaStream {
 public:
  /// Throws CudaError.
  explicit CudaStream(StreamPriority priority = StreamPriority::normal) {
    int least = 0, greatest = 0;
    cuda_check(cudaDeviceGetStreamPriorityRange(&least, &greatest), "making a CUDA stream");
    cuda_check(cudaStreamCreateWithPriority(&stream_, cudaStreamNonBlocking,
                                            priority == StreamPriority::high ? greatest : least),
               "making a CUDA stream");
  }
  CudaStream(CudaStream&& other) noexcept : stream_(std::exchange(other.stream_, nullptr)) {}
  CudaStream& operator=(CudaStream&& other) noexcept {
    std::swap(stream_, other.stream_);
    return *this;
  }
  /// What it was given is still done.
  ~CudaStream() {
    if (stream_) cudaStreamDestroy(stream_);
  }

  cudaStream_t get() const noexcept { return stream_; }

 private:
  cudaStream_t stream_ = nullptr;
};

namespace device {

/// The number of the capture that `stream` takes part in, or 0.
inline std::uint64_t capture_of(cudaStream_t stream) {
  cudaStreamCaptureStatus status = cudaStreamCaptureStatusNone;
  unsigned long long id = 0;
  cuda_check(cudaStreamGetCaptureInfo(stream, &status, &id), "asking whether a stream is captured");
  return status == cudaStreamCaptureStatusNone ? 0 : id;
}

/// For calls that touch nothing of a graph but which the runtime refuses while any thread captures one: allocating, and
/// asking for events.
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
