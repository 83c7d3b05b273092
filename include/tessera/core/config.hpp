// The required compiler, and the library's macros. No other header uses the macros of a toolkit.
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

// TESSERA_DEVICE_CODE: this compiler pass generates device code. TESSERA_ON_DEVICE: for an architecture that has
// instructions to convert 16-bit floats.
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

// Whether nvcc compiles device code with -ftz=true, which -use_fast_math implies. Subnormal numbers are then flushed to
// zero, and sums and conversions have other bits than the host's. No macro reports the flag; the compiler's back end
// replaces __nvvm_reflect by a constant. Source: LLVM, User Guide for NVPTX Back-end, Reflection Parameters.
#if defined(__NVCC__) && defined(__CUDA_ARCH__)
extern "C" __device__ int __nvvm_reflect(const void*);
#define TESSERA_FLUSHES_SUBNORMALS (__nvvm_reflect("__CUDA_FTZ") != 0)
#else
#define TESSERA_FLUSHES_SUBNORMALS false
#endif

#define TESSERA_ALWAYS_INLINE inline __attribute__((always_inline))

// The first line of a rule's operator(). Without it, clang may fuse a multiplication and an addition where the machine
// has such an instruction, and a rule would have different bits on different machines. (g++: exec/vectorize.hpp.)
#if defined(__clang__)
#define TESSERA_ROUND_EACH_OPERATION _Pragma("clang fp contract(off)")
#else
#define TESSERA_ROUND_EACH_OPERATION
#endif

// Unrolls a loop in device code, so that the array which the loop indexes stays in registers. (Empty in the host pass,
// whose compiler does not know the pragma.)
#if defined(__CUDA_ARCH__)
#define TESSERA_UNROLL _Pragma("unroll")
#else
#define TESSERA_UNROLL
#endif

namespace tessera {

/// The version as one number. Ranks of different versions may not train together.
inline constexpr long version = TESSERA_VERSION_MAJOR * 10000L + TESSERA_VERSION_MINOR * 100L + TESSERA_VERSION_PATCH;

}  // namespace tessera
