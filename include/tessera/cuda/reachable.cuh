// Whether a device's loops can use memory that a caller handed in.
#pragma once

#include <cuda_runtime.h>

#include <tessera/core/error.hpp>
#include <tessera/core/math.hpp>
#include <tessera/core/message.hpp>
#include <tessera/cuda/error.cuh>

namespace tessera::device {

inline cudaPointerAttributes attributes_of(const void* memory) {
  cudaPointerAttributes attributes{};
  cuda_check(cudaPointerGetAttributes(&attributes, memory), "asking what a pointer points to");
  return attributes;
}

/// Throws BufferError unless `device`, the current one, can read and write the `bytes` bytes from `memory` on: its own
/// memory, managed memory, and that of a device which it has peer access to (and is given it here).
inline void check_reachable(const char* name, const void* memory, index_t bytes, int device) {
  if (bytes == 0) return;
  const auto refuse = [&](MessagePart why) {
    throw BufferError(message({name, ": ", why.word(), "; it must be memory of device ", device, " (cudaMalloc)"}));
  };
  if (!memory) refuse("the pointer is null");
  const cudaPointerAttributes begin = attributes_of(memory);
  if (begin.type != cudaMemoryTypeDevice && begin.type != cudaMemoryTypeManaged) refuse("it lies in the host's memory");
  if (begin.type == cudaMemoryTypeDevice && begin.device != device) {
    int can = 0;
    cuda_check(cudaDeviceCanAccessPeer(&can, device, begin.device), "asking whether a device can use another's memory");
    if (!can) refuse(message({"it lies on device ", begin.device, ", which this one cannot access"}));
    const cudaError_t result = cudaDeviceEnablePeerAccess(begin.device, 0);
    if (result == cudaErrorPeerAccessAlreadyEnabled)
      static_cast<void>(cudaGetLastError());
    else
      cuda_check(result, "giving a device access to another's memory");
  }
  const cudaPointerAttributes end = attributes_of(static_cast<const char*>(memory) + bytes - 1);
  if (end.type != begin.type || end.device != begin.device)
    refuse(message({"its ", bytes, " bytes go beyond the memory that it begins in"}));
}

}  // namespace tessera::device
