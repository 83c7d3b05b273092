// Where an executor's device memory comes from.
#pragma once

#include <cuda_runtime.h>

#include <cstddef>

#include <tessera/core/math.hpp>
#include <tessera/cuda/error.cuh>
#include <tessera/cuda/stream.cuh>

namespace tessera {

/// A source of device memory. A communicator brings its own where its library wants memory that it made or registered.
/// Buffers keep their source alive.
class DeviceMemory {
 public:
  virtual ~DeviceMemory() = default;

  /// `bytes` > 0 bytes of the current device at a 256-byte border, of any contents. Throws CudaError, or what the source
  /// throws.
  virtual void* allocate(index_t bytes) = 0;
  /// Of the current device too; work that was given before may still use them, and is waited for.
  virtual void free(void* memory, index_t bytes) noexcept = 0;
};

/// cudaMalloc and cudaFree.
class PlainDeviceMemory final : public DeviceMemory {
 public:
  void* allocate(index_t bytes) override {
    const device::WhileCapturing allowed;
    void* memory = nullptr;
    cuda_check(cudaMalloc(&memory, static_cast<std::size_t>(bytes)), "allocating device memory");
    return memory;
  }
  void free(void* memory, index_t) noexcept override {
    const device::WhileCapturing allowed;
    cudaFree(memory);
  }
};

}  // namespace tessera
