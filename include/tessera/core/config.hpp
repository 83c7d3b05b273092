// What the compiler must be, and the few macros of the library. Macros of a toolkit appear in this file alone.
#pragma once

#if !defined(__cplusplus) || __cplusplus < 202002L
#error "tessera needs C++20: compile with -std=c++20"
#endif

#if defined(__FAST_MATH__)
#error "tessera promises the same bits at every stage and world size, which -ffast-math breaks: compile without it"
#endif
#if defined(__FINITE_MATH_ONLY__) && __FINITE_MATH_ONLY__
#error "tessera must see gradients that are not finite, which -ffinite-math-only hides: compile without it"
#endif

#define TESSERA_VERSION_MAJOR 0
#define TESSERA_VERSION_MINOR 1
#define TESSERA_VERSION_PATCH 0

#if defined(__CUDACC__)
#define TESSERA_HD __host__ __device__
#else
#define TESSERA_HD
#endif

// Whether this pass of the compiler makes a device's code; and of an architecture that converts 16-bit floats by itself.
#if defined(__CUDA_ARCH__)
#define TESSERA_DEVICE_CODE 1
#else
#define TESSERA_DEVICE_CODE 0
#endif
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
#define TESSERA_ON_DEVICE 1
#else
#define TESSERA_ON_DEVICE 0
#endif

// Whether nvcc compiles the device's code under -ftz=true, which -use_fast_math implies: subnormal numbers are then
// flushed to zero, and sums and conversions have other bits than the host's. It tells so by no macro, but its back end
// answers a question, as a constant. Source: LLVM, User Guide for NVPTX Back-end, Reflection Parameters.
#if defined(__NVCC__) && defined(__CUDA_ARCH__)
extern "C" __device__ int __nvvm_reflect(const void*);
#define TESSERA_FLUSHES_SUBNORMALS (__nvvm_reflect("__CUDA_FTZ") != 0)
#else
#define TESSERA_FLUSHES_SUBNORMALS false
#endif

#define TESSERA_ALWAYS_INLINE inline __attribute__((always_inline))

// The first line of a rule's operator(). Without it clang may fuse a product and a sum into one rounding wherever the
// machine can, and the same rule would have other bits on another machine. (g++ is told in exec/vectorize.hpp.)
#if defined(__clang__)
#define TESSERA_ROUND_EACH_OPERATION _Pragma("clang fp contract(off)")
#else
#define TESSERA_ROUND_EACH_OPERATION
#endif

// A loop that a device's compiler must take apart, so that what it indexes stays in registers. (Not in the pass for the
// host, whose compiler knows no such pragma.)
#if defined(__CUDA_ARCH__)
#define TESSERA_UNROLL _Pragma("unroll")
#else
#define TESSERA_UNROLL
#endif

namespace tessera {

/// The version whose ranks may train together, as one number.
inline constexpr long version = TESSERA_VERSION_MAJOR * 10000L + TESSERA_VERSION_MINOR * 100L + TESSERA_VERSION_PATCH;

}  // namespace tessera
