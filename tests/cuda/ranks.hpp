// Helpers for tests of ranks on devices: numbers in device memory, a delayed stream, and several devices.
#pragma once

#include <cuda_runtime.h>
#include <doctest/doctest.h>

#include <cstddef>
#include <span>
#include <utility>
#include <vector>

#include <tessera/core/math.hpp>

namespace tessera::testing {

/// A copy of a vector, complete after construction: the runtime's copy from pageable memory may return before the data
/// has arrived on the device, and non-blocking streams do not wait for it.
template <class T>
class DeviceMemory {
 public:
  explicit DeviceMemory(const std::vector<T>& values) : size_(values.size()) {
    if (size_ == 0) return;
    REQUIRE(cudaMalloc(&data_, bytes()) == cudaSuccess);
    REQUIRE(cudaMemcpy(data_, values.data(), bytes(), cudaMemcpyHostToDevice) == cudaSuccess);
    REQUIRE(cudaStreamSynchronize(nullptr) == cudaSuccess);
  }
  DeviceMemory(DeviceMemory&& other) noexcept : data_(std::exchange(other.data_, nullptr)), size_(other.size_) {}
  DeviceMemory& operator=(DeviceMemory&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(size_, other.size_);
    return *this;
  }
  ~DeviceMemory() { cudaFree(data_); }

  std::span<const T> in() const { return {data_, size_}; }
  std::span<T> out() { return {data_, size_}; }
  std::vector<T> get() const {
    std::vector<T> values(size_);
    if (size_ > 0) REQUIRE(cudaMemcpy(values.data(), data_, bytes(), cudaMemcpyDeviceToHost) == cudaSuccess);
    return values;
  }

 private:
  std::size_t bytes() const { return size_ * sizeof(T); }

  T* data_ = nullptr;
  std::size_t size_;
};

#if defined(__CUDACC__)

static __global__ void spin(long long cycles) {
  const long long begin = clock64();
  while (clock64() - begin < cycles) {
  }
}

/// Delays later work on `stream`, by about 10 ms on a device.
inline void delay(cudaStream_t stream) {
  cudaLaunchConfig_t config{};
  config.gridDim = config.blockDim = dim3(1);
  config.stream = stream;
  REQUIRE(cudaLaunchKernelEx(&config, spin, 20'000'000LL) == cudaSuccess);
}

/// On a real machine: all of its devices.
struct SeveralDevices {
  SeveralDevices() {}
};

#else

/// Delays later work on `stream` until no other work can run.
inline void delay(cudaStream_t stream) { emulated::delay(stream); }

/// There are three devices for the lifetime of the object.
struct SeveralDevices {
  SeveralDevices() { emulated::devices(3); }
  ~SeveralDevices() { emulated::devices(1); }
};

#endif

}  // namespace tessera::testing
