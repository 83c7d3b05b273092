// The names of <cuda_runtime.h> without behavior: keywords, small vectors, errors and enumerators with the toolkit's
// values.
#pragma once

#include <cstddef>
#include <cstdint>

#define TESSERA_EMULATED_CUDA 1  // for tests that depend on it
#define CUDART_VERSION 13000

#define __global__
#define __device__
#define __host__
#define __constant__
#define __grid_constant__
#define __forceinline__ inline __attribute__((always_inline))
#define __noinline__ __attribute__((noinline))
#define __launch_bounds__(...)
// One block of threads runs at a time, so one copy is enough. The next block finds the old content.
#define __shared__ static

struct uint3 {
  unsigned x, y, z;
};
struct dim3 {
  unsigned x = 1, y = 1, z = 1;
  constexpr dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
};

#define TESSERA_EMULATED_VECTORS(name, T)                           \
  struct alignas(2 * sizeof(T)) name##2 {                           \
    T x, y;                                                         \
  };                                                                \
  struct alignas(4 * sizeof(T) < 16 ? 4 * sizeof(T) : 16) name##4 { \
    T x, y, z, w;                                                   \
  };                                                                \
  constexpr name##2 make_##name##2(T x, T y) { return {x, y}; }     \
  constexpr name##4 make_##name##4(T x, T y, T z, T w) { return {x, y, z, w}; }
TESSERA_EMULATED_VECTORS(int, int)
TESSERA_EMULATED_VECTORS(uint, unsigned)
TESSERA_EMULATED_VECTORS(float, float)
TESSERA_EMULATED_VECTORS(double, double)
TESSERA_EMULATED_VECTORS(ushort, unsigned short)
TESSERA_EMULATED_VECTORS(ulonglong, unsigned long long)
#undef TESSERA_EMULATED_VECTORS

#define TESSERA_EMULATED_ERRORS(X)                                                                             \
  X(cudaSuccess, 0, "no error")                                                                                \
  X(cudaErrorInvalidValue, 1, "invalid argument")                                                              \
  X(cudaErrorMemoryAllocation, 2, "out of memory")                                                             \
  X(cudaErrorInitializationError, 3, "initialization error")                                                   \
  X(cudaErrorInvalidConfiguration, 9, "invalid configuration argument")                                        \
  X(cudaErrorInvalidDevicePointer, 17, "invalid device pointer")                                               \
  X(cudaErrorInvalidMemcpyDirection, 21, "invalid copy direction for memcpy")                                  \
  X(cudaErrorInsufficientDriver, 35, "CUDA driver version is insufficient for CUDA runtime version")           \
  X(cudaErrorInvalidDeviceFunction, 98, "invalid device function")                                             \
  X(cudaErrorNoDevice, 100, "no CUDA-capable device is detected")                                              \
  X(cudaErrorInvalidDevice, 101, "invalid device ordinal")                                                     \
  X(cudaErrorNoKernelImageForDevice, 209, "no kernel image is available for execution on the device")          \
  X(cudaErrorPeerAccessUnsupported, 217, "peer access is not supported between these two devices")             \
  X(cudaErrorInvalidResourceHandle, 400, "invalid resource handle")                                            \
  X(cudaErrorNotReady, 600, "device not ready")                                                                \
  X(cudaErrorIllegalAddress, 700, "an illegal memory access was encountered")                                  \
  X(cudaErrorPeerAccessAlreadyEnabled, 704, "peer access is already enabled")                                  \
  X(cudaErrorPeerAccessNotEnabled, 705, "peer access has not been enabled")                                    \
  X(cudaErrorLaunchFailure, 719, "unspecified launch failure")                                                 \
  X(cudaErrorNotPermitted, 800, "operation not permitted")                                                     \
  X(cudaErrorNotSupported, 801, "operation not supported")                                                     \
  X(cudaErrorStreamCaptureUnsupported, 900, "operation not permitted when stream is capturing")                \
  X(cudaErrorStreamCaptureInvalidated, 901, "operation failed due to a previous error during capture")         \
  X(cudaErrorStreamCaptureMerge, 902, "operation would result in a merge of separate capture sequences")       \
  X(cudaErrorStreamCaptureUnmatched, 903, "capture was not initiated in this stream")                          \
  X(cudaErrorStreamCaptureUnjoined, 904, "capturing stream has unjoined work")                                 \
  X(cudaErrorStreamCaptureIsolation, 905, "dependency created on uncaptured work in another stream")           \
  X(cudaErrorStreamCaptureImplicit, 906, "operation would make the legacy stream depend on a capturing one")   \
  X(cudaErrorCapturedEvent, 907, "operation not permitted on an event last recorded in a capturing stream")    \
  X(cudaErrorStreamCaptureWrongThread, 908, "attempt to terminate a thread-local capture from another thread") \
  X(cudaErrorUnknown, 999, "unknown error")

#define TESSERA_EMULATED_ENUMERATOR(name, number, text) name = number,
enum cudaError { TESSERA_EMULATED_ERRORS(TESSERA_EMULATED_ENUMERATOR) };
#undef TESSERA_EMULATED_ENUMERATOR
using cudaError_t = cudaError;

enum cudaMemoryType {
  cudaMemoryTypeUnregistered = 0,
  cudaMemoryTypeHost = 1,
  cudaMemoryTypeDevice = 2,
  cudaMemoryTypeManaged = 3
};
enum cudaMemcpyKind {
  cudaMemcpyHostToHost = 0,
  cudaMemcpyHostToDevice = 1,
  cudaMemcpyDeviceToHost = 2,
  cudaMemcpyDeviceToDevice = 3,
  cudaMemcpyDefault = 4
};
struct cudaPointerAttributes {
  cudaMemoryType type;
  int device;
  void* devicePointer;
  void* hostPointer;
};

enum cudaDeviceAttr {
  cudaDevAttrMaxThreadsPerBlock = 1,
  cudaDevAttrMaxSharedMemoryPerBlock = 8,
  cudaDevAttrWarpSize = 10,
  cudaDevAttrMultiProcessorCount = 16,
  cudaDevAttrConcurrentKernels = 31,
  cudaDevAttrMaxThreadsPerMultiProcessor = 39,
  cudaDevAttrUnifiedAddressing = 41,
  cudaDevAttrComputeCapabilityMajor = 75,
  cudaDevAttrComputeCapabilityMinor = 76,
  cudaDevAttrManagedMemory = 83,
  cudaDevAttrHostNativeAtomicSupported = 86,
  cudaDevAttrPageableMemoryAccess = 88
};

enum cudaStreamCaptureStatus {
  cudaStreamCaptureStatusNone = 0,
  cudaStreamCaptureStatusActive = 1,
  cudaStreamCaptureStatusInvalidated = 2
};
enum cudaStreamCaptureMode {
  cudaStreamCaptureModeGlobal = 0,
  cudaStreamCaptureModeThreadLocal = 1,
  cudaStreamCaptureModeRelaxed = 2
};

inline constexpr unsigned cudaStreamDefault = 0, cudaStreamNonBlocking = 1;
inline constexpr unsigned cudaEventDefault = 0, cudaEventBlockingSync = 1, cudaEventDisableTiming = 2;
inline constexpr unsigned cudaEventWaitDefault = 0, cudaEventRecordDefault = 0;
inline constexpr unsigned cudaHostAllocDefault = 0, cudaHostAllocPortable = 1, cudaHostAllocMapped = 2;
inline constexpr unsigned cudaMemAttachGlobal = 1;

using cudaStream_t = struct CUstream_st*;
using cudaEvent_t = struct CUevent_st*;
using cudaGraph_t = struct CUgraph_st*;
using cudaGraphExec_t = struct CUgraphExec_st*;
using cudaHostFn_t = void (*)(void*);

struct cudaLaunchAttribute;  // none is used
struct cudaLaunchConfig_t {
  dim3 gridDim, blockDim;
  std::size_t dynamicSmemBytes;
  cudaStream_t stream;
  cudaLaunchAttribute* attrs;
  unsigned numAttrs;
};
