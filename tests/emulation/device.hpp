// Functions for kernels. One thread of one kernel runs at a time, so an atomic is a plain read and write.
#pragma once

#include <bit>
#include <cstring>

#include "kernel.hpp"

inline void __syncthreads() { emulated::block().barrier(); }
inline void __threadfence() {}
inline void __threadfence_block() {}
inline void __threadfence_system() {}
inline void __nanosleep(unsigned) {}

inline long long clock64() {
  static long long now = 0;
  return now += 1000;
}

namespace emulated {

template <class T>
std::uint64_t as_bits(T value) {
  static_assert(sizeof(T) <= sizeof(std::uint64_t), "a warp exchanges values of up to 8 bytes");
  std::uint64_t bits = 0;
  std::memcpy(&bits, &value, sizeof(T));
  return bits;
}

// The value of lane `from` in this thread's group of `width` lanes; the thread's own value if there is no such lane.
template <class T>
T shuffle(unsigned mask, T value, int from, int width) {
  const int lane = static_cast<int>(block().lane()), first = lane / width * width;
  const Block::Values values = block().exchange(mask, as_bits(value));
  if (from < 0 || from >= width || (values.lanes >> (first + from) & 1) == 0) return value;
  std::memcpy(&value, &values.of[first + from], sizeof(T));
  return value;
}

inline int lane_of(int width) { return static_cast<int>(block().lane()) % width; }

}  // namespace emulated

template <class T>
T __shfl_sync(unsigned mask, T value, int from, int width = warpSize) {
  return emulated::shuffle(mask, value, from % width, width);
}
template <class T>
T __shfl_xor_sync(unsigned mask, T value, int lanes, int width = warpSize) {
  return emulated::shuffle(mask, value, emulated::lane_of(width) ^ lanes, width);
}
template <class T>
T __shfl_down_sync(unsigned mask, T value, unsigned by, int width = warpSize) {
  return emulated::shuffle(mask, value, emulated::lane_of(width) + static_cast<int>(by), width);
}
template <class T>
T __shfl_up_sync(unsigned mask, T value, unsigned by, int width = warpSize) {
  return emulated::shuffle(mask, value, emulated::lane_of(width) - static_cast<int>(by), width);
}
inline unsigned __ballot_sync(unsigned mask, int predicate) {
  const emulated::Block::Values values = emulated::block().exchange(mask, predicate != 0);
  unsigned ballot = 0;
  for (unsigned lane = 0; lane < 32; ++lane) {
    if ((values.lanes >> lane & 1) != 0 && values.of[lane] != 0) ballot |= 1u << lane;
  }
  return ballot;
}
inline int __any_sync(unsigned mask, int predicate) { return __ballot_sync(mask, predicate) != 0; }
inline int __all_sync(unsigned mask, int predicate) { return __ballot_sync(mask, !predicate) == 0; }
inline void __syncwarp(unsigned mask = 0xffffffff) { emulated::block().exchange(mask, 0); }

inline int __popc(unsigned bits) { return std::popcount(bits); }
inline int __popcll(unsigned long long bits) { return std::popcount(bits); }
inline int __clz(int bits) { return std::countl_zero(static_cast<unsigned>(bits)); }
inline int __clzll(long long bits) { return std::countl_zero(static_cast<unsigned long long>(bits)); }
inline int __ffs(int bits) { return bits == 0 ? 0 : std::countr_zero(static_cast<unsigned>(bits)) + 1; }
inline unsigned __float_as_uint(float value) { return std::bit_cast<unsigned>(value); }
inline int __float_as_int(float value) { return std::bit_cast<int>(value); }
inline float __uint_as_float(unsigned bits) { return std::bit_cast<float>(bits); }
inline float __int_as_float(int bits) { return std::bit_cast<float>(bits); }
inline long long __double_as_longlong(double value) { return std::bit_cast<long long>(value); }
inline double __longlong_as_double(long long bits) { return std::bit_cast<double>(bits); }

template <class T>
T __ldg(const T* from) {
  return *from;
}
template <class T>
T __ldcs(const T* from) {
  return *from;
}
template <class T>
void __stcs(T* to, T value) {
  *to = value;
}

// Each returns the old value.
template <class T>
T atomicAdd(T* at, std::type_identity_t<T> value) {
  const T before = *at;
  *at = before + value;
  return before;
}
template <class T>
T atomicMin(T* at, std::type_identity_t<T> value) {
  const T before = *at;
  if (value < before) *at = value;
  return before;
}
template <class T>
T atomicMax(T* at, std::type_identity_t<T> value) {
  const T before = *at;
  if (before < value) *at = value;
  return before;
}
template <class T>
T atomicOr(T* at, std::type_identity_t<T> bits) {
  const T before = *at;
  *at = before | bits;
  return before;
}
template <class T>
T atomicExch(T* at, std::type_identity_t<T> value) {
  const T before = *at;
  *at = value;
  return before;
}
// For memory that the host reads at the same time.
template <class T>
T __ldcv(const T* at) {
  return __atomic_load_n(at, __ATOMIC_SEQ_CST);
}
template <class T>
void __stwt(T* at, std::type_identity_t<T> value) {
  __atomic_store_n(at, value, __ATOMIC_SEQ_CST);
}
template <class T>
T atomicCAS(T* at, std::type_identity_t<T> expected, std::type_identity_t<T> value) {
  const T before = *at;
  if (before == expected) *at = value;
  return before;
}
