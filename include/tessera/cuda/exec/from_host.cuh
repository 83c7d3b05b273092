// Passes numbers that the host computes to a loop on the device.
#pragma once

#include <cuda_runtime.h>

#include <cstddef>

#include <tessera/core/config.hpp>
#include <tessera/core/math.hpp>
#include <tessera/cuda/runtime/error.cuh>
#include <tessera/cuda/exec/for_each.cuh>
#include <tessera/exec/float_environment.hpp>

namespace tessera::device {

/// Two buffers of pinned memory. The host fills one while a kernel reads the other in place.
class HostChunks {
 public:
  static constexpr index_t size = index_t{1} << 15;  // floats

  /// On the current device. Throws CudaError.
  HostChunks() : HostChunks(nullptr) {
    cuda_check(cudaHostAlloc(&memory_, 2 * size * sizeof(float), cudaHostAllocDefault), "allocating pinned memory");
    for (cudaEvent_t& event : read_)
      cuda_check(cudaEventCreateWithFlags(&event, cudaEventDisableTiming), "creating a CUDA event");
  }
  HostChunks(const HostChunks&) = delete;
  HostChunks& operator=(const HostChunks&) = delete;
  ~HostChunks() {
    for (cudaEvent_t event : read_)
      if (event) cudaEventDestroy(event);
    if (memory_) cudaFreeHost(memory_);
  }

  float* chunk(int i) const noexcept { return static_cast<float*>(memory_) + i * size; }
  /// Recorded after the last kernel that reads this chunk.
  cudaEvent_t read(int i) const noexcept { return read_[i]; }

 private:
  explicit HostChunks(std::nullptr_t) noexcept {}  // delegated to, so that the destructor runs if allocation fails

  void* memory_ = nullptr;
  cudaEvent_t read_[2] = {};
};

template <class Body>
struct WithValues {
  Body body;
  const float* values;
  index_t begin;

  TESSERA_HD void operator()(index_t i) const noexcept { body(begin + i, values[i]); }
};

// Not inlined, as the host's vector code: it must run in the floating-point environment that the caller has set.
template <class Value>
__attribute__((noinline)) void fill(float* values, index_t n, index_t begin, Value& value) {
  for (index_t i = 0; i < n; ++i) values[i] = value(begin + i);
}

/// Calls body(i, value(i)) for 0 <= i < n: value on the host, in order and in the default floating-point environment,
/// body on the device. Blocks. Throws CudaError, or what value throws after the device has completed its work.
template <class Value, class Body>
void from_host(index_t n, Value&& value, const Body& body, const HostChunks& chunks, int multiprocessors,
               cudaStream_t stream) {
  struct Finished {
    cudaStream_t stream;
    ~Finished() { cudaStreamSynchronize(stream); }
  };
  const Finished also_if_value_throws{stream};
  for (index_t begin = 0; begin < n; begin += HostChunks::size) {
    const int turn = static_cast<int>(begin / HostChunks::size % 2);
    float* const values = chunks.chunk(turn);
    const index_t count = min(HostChunks::size, n - begin);
    if (begin >= 2 * HostChunks::size) cuda_check(cudaEventSynchronize(chunks.read(turn)), "waiting for a kernel");
    {
      const exec::DefaultFloatEnvironment ieee;
      fill(values, count, begin, value);
    }
    for_each(count, WithValues<Body>{body, values, begin}, multiprocessors, stream);
    cuda_check(cudaEventRecord(chunks.read(turn), stream), "recording an event");
  }
  cuda_check(cudaStreamSynchronize(stream), "waiting for the device");
}

}  // namespace tessera::device
