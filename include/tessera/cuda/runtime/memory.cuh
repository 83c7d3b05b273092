// Sources of an executor's device memory, and a check whether the device can use the caller's memory.
#pragma once

#include <cuda_runtime.h>

#include <cstddef>

#include <tessera/core/error.hpp>
#include <tessera/core/math.hpp>
#include <tessera/core/message.hpp>
#include <tessera/cuda/runtime/error.cuh>
#include <tessera/cuda/runtime/stream.cuh>

namespace tessera {

/// A source of device memory. A communicator has its own source if its library needs memory that it allocated or
/// registered. Buffers keep their source alive.
class DeviceMemory {
 public:
  virtual ~DeviceMemory() = default;

  /// `bytes` > 0 bytes of the current device, aligned to 256 bytes, uninitialized. Throws CudaError, or what the source
  /// throws.
  virtual void* allocate(index_t bytes) = 0;
  /// On the same current device. Waits for earlier work that may still use the memory.
  virtual void free(void* memory, index_t bytes) noexcept = 0;
};

/// Uses cudaMalloc and cudaFree.
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

namespace device {

inline cudaPointerAttributes attributes_of(const void* memory) {
  cudaPointerAttributes attributes{};
  cuda_check(cudaPointerGetAttributes(&attributes, memory), "getting a pointer's attributes");
  return attributes;
}

/// Throws BufferError unless the `bytes` bytes at `memory` are memory of `device` or managed memory. (Memory of a peer
/// device would have a tenth of the bandwidth, and NCCL rejects it.)
inline void check_reachable(const char* name, const void* memory, index_t bytes, int device) {
  if (bytes == 0) return;
  const auto refuse = [&](core::MessagePart why) {
    throw BufferError(message({name, ": ", why.word(), "; it must be memory of device ", device, " (cudaMalloc)"}));
  };
  if (!memory) refuse("the pointer is null");
  const cudaPointerAttributes begin = attributes_of(memory);
  if (begin.type != cudaMemoryTypeDevice && begin.type != cudaMemoryTypeManaged) refuse("it is host memory");
  if (begin.type == cudaMemoryTypeDevice && begin.device != device)
    refuse(message({"it is memory of device ", begin.device}));
  const cudaPointerAttributes end = attributes_of(static_cast<const char*>(memory) + bytes - 1);
  if (end.type != begin.type || end.device != begin.device)
    refuse(message({"its ", bytes, " bytes extend beyond its allocation"}));
}

}  // namespace device

}  // namespace tessera
