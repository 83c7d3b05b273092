// Devices, errors, memory and copies.
#pragma once

#include "call.hpp"

inline const char* cudaGetErrorName(cudaError_t error) {
  switch (error) {
#define TESSERA_EMULATED_NAME(name, number, text) \
  case name: return #name;
    TESSERA_EMULATED_ERRORS(TESSERA_EMULATED_NAME)
#undef TESSERA_EMULATED_NAME
  }
  return "unrecognized error code";
}
inline const char* cudaGetErrorString(cudaError_t error) {
  switch (error) {
#define TESSERA_EMULATED_TEXT(name, number, text) \
  case name: return text;
    TESSERA_EMULATED_ERRORS(TESSERA_EMULATED_TEXT)
#undef TESSERA_EMULATED_TEXT
  }
  return "unrecognized error code";
}
inline cudaError_t cudaPeekAtLastError() { return emulated::last_error(); }
inline cudaError_t cudaGetLastError() { return std::exchange(emulated::last_error(), cudaSuccess); }

inline cudaError_t cudaDriverGetVersion(int* version) { return *version = CUDART_VERSION, cudaSuccess; }
inline cudaError_t cudaRuntimeGetVersion(int* version) { return *version = CUDART_VERSION, cudaSuccess; }

inline cudaError_t cudaGetDeviceCount(int* count) {
  return emulated::call([&] {
    const int devices = emulated::machine().devices;
    if (devices == 0) return cudaErrorNoDevice;
    *count = devices;
    return cudaSuccess;
  });
}
inline cudaError_t cudaGetDevice(int* device) {
  return emulated::call([&] { return *device = emulated::current_device(), cudaSuccess; });
}
inline cudaError_t cudaSetDevice(int device) {
  return emulated::call([&] {
    if (device < 0 || device >= emulated::machine().devices) return cudaErrorInvalidDevice;
    emulated::current_device() = device;
    return cudaSuccess;
  });
}
inline cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int device) {
  return emulated::call([&] {
    if (device < 0 || device >= emulated::machine().devices) return cudaErrorInvalidDevice;
    switch (attribute) {
      case cudaDevAttrMaxThreadsPerBlock: *value = 1024; break;
      case cudaDevAttrMaxSharedMemoryPerBlock: *value = 48 * 1024; break;
      case cudaDevAttrWarpSize: *value = warpSize; break;
      case cudaDevAttrMultiProcessorCount: *value = 3; break;  // few, so that small grids iterate
      case cudaDevAttrMaxThreadsPerMultiProcessor: *value = 2048; break;
      case cudaDevAttrConcurrentKernels: *value = 1; break;
      case cudaDevAttrUnifiedAddressing: *value = 1; break;
      case cudaDevAttrComputeCapabilityMajor: *value = 9; break;
      case cudaDevAttrComputeCapabilityMinor: *value = 0; break;
      case cudaDevAttrManagedMemory: *value = 1; break;
      case cudaDevAttrHostNativeAtomicSupported: *value = 0; break;
      case cudaDevAttrPageableMemoryAccess: *value = 0; break;
      default: return cudaErrorInvalidValue;
    }
    return cudaSuccess;
  });
}
inline cudaError_t cudaDeviceCanAccessPeer(int* can, int device, int peer) {
  return emulated::call([&] {
    const int devices = emulated::machine().devices;
    if (device < 0 || device >= devices || peer < 0 || peer >= devices) return cudaErrorInvalidDevice;
    *can = device != peer;
    return cudaSuccess;
  });
}
inline cudaError_t cudaDeviceEnablePeerAccess(int peer, unsigned) {
  return emulated::call([&] {
    emulated::Machine& m = emulated::machine();
    if (peer < 0 || peer >= m.devices || peer == emulated::current_device()) return cudaErrorInvalidDevice;
    emulated::DeviceSet& reach = m.reach[emulated::current_device()];
    if (reach >> peer & 1) return cudaErrorPeerAccessAlreadyEnabled;
    reach |= emulated::DeviceSet{1} << peer;
    return cudaSuccess;
  });
}
inline cudaError_t cudaDeviceSynchronize() {
  return emulated::call([] {
    if (const cudaError_t error = emulated::refuse_in_capture(); error != cudaSuccess) return error;
    emulated::synchronize_device(emulated::current_device());
    return cudaSuccess;
  });
}

namespace emulated {

inline constexpr std::size_t cuda_alignment = 256;

inline cudaError_t allocate(void** memory, std::size_t bytes, cudaMemoryType type,
                            std::size_t alignment = cuda_alignment) {
  return call([&] {
    if (const cudaError_t error = refuse_in_capture(); error != cudaSuccess) return error;
    Memory& all = machine().memory;
    *memory = all.allocate(type, bytes, current_device(), alignment);
    all.hide();
    return *memory != nullptr || bytes == 0 ? cudaSuccess : cudaErrorMemoryAllocation;
  });
}

// First waits for the whole device, as cudaFree does.
inline cudaError_t free(void* memory, cudaMemoryType type, std::size_t alignment = cuda_alignment) {
  return call([&] {
    if (memory == nullptr) return cudaSuccess;
    if (const cudaError_t error = refuse_in_capture(); error != cudaSuccess) return error;
    const Memory::Allocation* allocation = machine().memory.find(memory);
    if (allocation == nullptr) return cudaErrorInvalidValue;
    synchronize_device(allocation->device);
    return machine().memory.free(memory, type, alignment) ? cudaSuccess : cudaErrorInvalidValue;
  });
}

inline bool is_pageable(const void* memory) { return machine().memory.find(memory) == nullptr; }
inline bool is_device(const void* memory) {
  const Memory::Allocation* allocation = machine().memory.find(memory);
  return allocation != nullptr && allocation->type == cudaMemoryTypeDevice;
}

// Whether all bytes are in one allocation, or none in any.
inline bool lies_within(const void* memory, std::size_t bytes) {
  const Memory& all = machine().memory;
  return bytes == 0 || all.find(memory) == all.find(static_cast<const char*>(memory) + bytes - 1);
}

inline bool goes(cudaMemcpyKind kind, const void* to, const void* from) {
  if (kind == cudaMemcpyDefault) return true;
  const bool to_device = kind == cudaMemcpyHostToDevice || kind == cudaMemcpyDeviceToDevice;
  const bool from_device = kind == cudaMemcpyDeviceToHost || kind == cudaMemcpyDeviceToDevice;
  return (to_device || !is_device(to)) && (from_device || !is_device(from)) && (!to_device || !is_pageable(to)) &&
         (!from_device || !is_pageable(from));
}

// Pageable memory is read when the copy is enqueued, and written before the call returns; both are rejected in a
// capture.
inline cudaError_t copy(const StreamPtr& stream, void* to, const void* from, std::size_t bytes, cudaMemcpyKind kind) {
  if (stream == nullptr) return cudaErrorInvalidResourceHandle;
  if (bytes == 0) return cudaSuccess;
  if (!lies_within(to, bytes) || !lies_within(from, bytes)) return cudaErrorInvalidValue;
  if (!goes(kind, to, from)) return cudaErrorInvalidMemcpyDirection;
  const bool captures = stream->capture != nullptr;
  std::vector<char> staged;
  if (is_pageable(from) && !captures) {
    staged.assign(static_cast<const char*>(from), static_cast<const char*>(from) + bytes);
  }
  const cudaError_t error = enqueue(*stream, {"copy", [=] {
                                                machine().memory.show(all_devices);
                                                std::memmove(to, staged.empty() ? from : staged.data(), bytes);
                                                return Progress::done;
                                              }});
  if (error == cudaSuccess && is_pageable(to) && !captures) emulated::synchronize(stream);
  return error;
}

inline cudaError_t set(const StreamPtr& stream, void* to, int value, std::size_t bytes) {
  if (stream == nullptr) return cudaErrorInvalidResourceHandle;
  if (bytes == 0) return cudaSuccess;
  if (is_pageable(to) || !lies_within(to, bytes)) return cudaErrorInvalidValue;
  return enqueue(*stream, {"memset", [=] {
                             machine().memory.show(all_devices);
                             std::memset(to, value, bytes);
                             return Progress::done;
                           }});
}

}  // namespace emulated

inline cudaError_t cudaMalloc(void** memory, std::size_t bytes) {
  return emulated::allocate(memory, bytes, cudaMemoryTypeDevice);
}
inline cudaError_t cudaMallocHost(void** memory, std::size_t bytes, unsigned = 0) {
  return emulated::allocate(memory, bytes, cudaMemoryTypeHost);
}
/// As if no memory were in use.
inline cudaError_t cudaMemGetInfo(std::size_t* free, std::size_t* all) {
  *free = *all = std::size_t{1} << 30;
  return cudaSuccess;
}
inline cudaError_t cudaHostAlloc(void** memory, std::size_t bytes, unsigned) { return cudaMallocHost(memory, bytes); }
inline cudaError_t cudaMallocManaged(void** memory, std::size_t bytes, unsigned = cudaMemAttachGlobal) {
  return emulated::allocate(memory, bytes, cudaMemoryTypeManaged);
}
template <class T>
cudaError_t cudaMalloc(T** memory, std::size_t bytes) {
  return cudaMalloc(reinterpret_cast<void**>(memory), bytes);
}
template <class T>
cudaError_t cudaMallocHost(T** memory, std::size_t bytes, unsigned flags = 0) {
  return cudaMallocHost(reinterpret_cast<void**>(memory), bytes, flags);
}
template <class T>
cudaError_t cudaHostAlloc(T** memory, std::size_t bytes, unsigned flags) {
  return cudaHostAlloc(reinterpret_cast<void**>(memory), bytes, flags);
}
template <class T>
cudaError_t cudaMallocManaged(T** memory, std::size_t bytes, unsigned flags = cudaMemAttachGlobal) {
  return cudaMallocManaged(reinterpret_cast<void**>(memory), bytes, flags);
}
inline cudaError_t cudaFree(void* memory) { return emulated::free(memory, cudaMemoryTypeDevice); }
inline cudaError_t cudaFreeHost(void* memory) { return emulated::free(memory, cudaMemoryTypeHost); }

inline cudaError_t cudaPointerGetAttributes(cudaPointerAttributes* attributes, const void* memory) {
  return emulated::call([&] {
    const emulated::Memory::Allocation* allocation = emulated::machine().memory.find(memory);
    void* address = const_cast<void*>(memory);
    *attributes = {cudaMemoryTypeUnregistered, -2, nullptr, address};
    if (allocation != nullptr) {
      void* on_host = allocation->type == cudaMemoryTypeDevice ? nullptr : address;
      *attributes = {allocation->type, allocation->device, address, on_host};
    }
    return cudaSuccess;
  });
}

inline cudaError_t cudaMemcpyAsync(void* to, const void* from, std::size_t bytes, cudaMemcpyKind kind,
                                   cudaStream_t stream = nullptr) {
  return emulated::call([&] { return emulated::copy(emulated::find(stream), to, from, bytes, kind); });
}
// On the legacy stream. Waits for the copy if it writes host memory or reads pinned memory. Pageable memory has been
// read when the call returns, but the data may not have arrived on the device.
inline cudaError_t cudaMemcpy(void* to, const void* from, std::size_t bytes, cudaMemcpyKind kind) {
  return emulated::call([&] {
    const auto stream = emulated::find(nullptr);
    const cudaError_t error = emulated::copy(stream, to, from, bytes, kind);
    const bool on_its_way = emulated::is_device(to) && (emulated::is_device(from) || emulated::is_pageable(from));
    if (error == cudaSuccess && !on_its_way) emulated::synchronize(stream);
    return error;
  });
}
inline cudaError_t cudaMemsetAsync(void* to, int value, std::size_t bytes, cudaStream_t stream = nullptr) {
  return emulated::call([&] { return emulated::set(emulated::find(stream), to, value, bytes); });
}
inline cudaError_t cudaMemset(void* to, int value, std::size_t bytes) { return cudaMemsetAsync(to, value, bytes); }
