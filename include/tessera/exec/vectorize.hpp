// Runs code in the machine's widest vectors, whatever flags the caller compiles with. This header compiles each piece
// of code three times and selects one at run time. All three give the same bits: no multiplication and addition is
// fused, and the order of operations does not depend on how a range is split.
#pragma once

#include <tessera/core/config.hpp>
#include <tessera/core/math.hpp>
#include <tessera/exec/loop_body.hpp>

// noinline: a compiler moves arithmetic across a change of the floating-point environment, but not across a call.
// fp-contract=off: g++ would fuse under a user's -march=native or -mfma. flatten: inlines what the body calls, so that
// no part of it keeps the user's flags. (For clang the body has the pragma of TESSERA_ROUND_EACH_OPERATION.)
#if defined(__GNUC__) && !defined(__clang__)
#define TESSERA_VECTOR_CODE noinline, flatten, optimize("fp-contract=off")
#define TESSERA_INDEPENDENT _Pragma("GCC ivdep")
#define TESSERA_AVX512 "avx512f,avx512vl,avx512bw,avx512dq,prefer-vector-width=512"
#elif defined(__clang__)
#define TESSERA_VECTOR_CODE noinline, flatten
#define TESSERA_INDEPENDENT _Pragma("clang loop vectorize(assume_safety) interleave(enable)")
#define TESSERA_AVX512 "avx512f,avx512vl,avx512bw,avx512dq"
#else
#define TESSERA_VECTOR_CODE noinline
#define TESSERA_INDEPENDENT
#endif

namespace tessera::exec {

/// The instruction set that code is compiled for. `baseline` is that of the caller's flags.
enum class Isa { baseline, avx2, avx512 };

namespace vector_code {

template <class Code>
__attribute__((TESSERA_VECTOR_CODE)) auto baseline(Code code) {
  return code();
}

#if defined(__x86_64__)
template <class Code>
__attribute__((TESSERA_VECTOR_CODE, target("avx2"))) void avx2(Code code) {
  code();
}

template <class Code>
__attribute__((TESSERA_VECTOR_CODE, target(TESSERA_AVX512))) void avx512(Code code) {
  code();
}
#endif

inline Isa detect() noexcept {
#if defined(__x86_64__)
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512bw") &&
      __builtin_cpu_supports("avx512dq")) {
    return Isa::avx512;
  }
  if (__builtin_cpu_supports("avx2")) return Isa::avx2;
#endif
  return Isa::baseline;
}

/// How many elements ahead a body prefetches. Fraction of peak bandwidth in bench/update (Zen 3, 2^24 elements, one
/// thread), fp32 and bf16: none 0.94 0.85, 64: 0.97 0.95, 256: 0.98 0.98, 512: 0.97 0.96, 1024: 0.86 0.80.
inline constexpr index_t prefetch_distance = 256;

/// Prefetches the cache lines of a block of elements, `prefetch_distance` elements after `from`. The address may lie
/// beyond the end of the array.
template <class T>
TESSERA_ALWAYS_INLINE void prefetch_block(const T* from) noexcept {
  constexpr index_t line = 64 / sizeof(T);
  for (index_t j = 0; j < block; j += line) __builtin_prefetch(from + prefetch_distance + j, 1);
}

// With plain -O2, g++ vectorizes only loops with a known trip count and without run-time checks of pointers. Hence
// blocks of constant length with the pragma for independent iterations.
template <class Body>
struct Loop {
  index_t begin;
  index_t end;
  Body body;

  TESSERA_ALWAYS_INLINE void operator()() const {
    index_t i = begin;
    index_t looked_at = begin;
    if constexpr (TwoPhaseBody<Body>) {
      i = halves(looked_at);
    } else {
      for (; end - i >= block; i += block) {
        prefetch(i);
        TESSERA_INDEPENDENT
        for (index_t j = 0; j < block; ++j) body(i + j);
        look(looked_at, i + block);
      }
    }
    for (; i < end; ++i) body(i);
    if constexpr (CheckingBody<Body>)
      if (looked_at < end) body.after(looked_at, end);
  }

 private:
  TESSERA_ALWAYS_INLINE void prefetch(index_t i) const {
    if constexpr (PrefetchingBody<Body>) body.prefetch(i);
  }

  // Calls after() for several blocks at a time, while they are still in the first-level cache.
  TESSERA_ALWAYS_INLINE void look(index_t& looked_at, index_t done) const {
    if constexpr (CheckingBody<Body>) {
      if (done - looked_at < 16 * block) return;
      body.after(looked_at, done);
      looked_at = done;
    }
  }

  //   first  | block 0 | block 1 | block 2 |            The processor's out-of-order window holds a few vectors.
  //   last             | block 0 | block 1 | block 2 |  An operation that waits for a division fills it and delays the
  //                                                     next divisions, unless it runs one block later.
  TESSERA_ALWAYS_INLINE index_t halves(index_t& looked_at) const {
    if (end - begin < block) return begin;
    index_t i = begin;
    prefetch(i);
    TESSERA_INDEPENDENT
    for (index_t j = 0; j < block; ++j) body.first(i + j);
    for (i += block; end - i >= block; i += block) {
      prefetch(i);
      TESSERA_INDEPENDENT
      for (index_t j = 0; j < block; ++j) {
        body.first(i + j);
        body.last(i + j - block);
      }
      look(looked_at, i);
    }
    TESSERA_INDEPENDENT
    for (index_t j = 0; j < block; ++j) body.last(i + j - block);
    look(looked_at, i);
    return i;
  }
};

}  // namespace vector_code

/// The widest instruction set that this machine has and this header supports.
inline Isa best_isa() noexcept {
  static const Isa best = vector_code::detect();
  return best;
}

/// Calls code() compiled for `isa`, which must be at most best_isa().
/// code: a functor whose call is always inlined (TESSERA_ALWAYS_INLINE); otherwise it keeps the caller's flags.
template <class Code>
void run_as(Isa isa, Code code) {
#if defined(__x86_64__)
  if (isa == Isa::avx512) return vector_code::avx512(code);
  if (isa == Isa::avx2) return vector_code::avx2(code);
#endif
  static_cast<void>(isa);
  vector_code::baseline(code);
}

/// Returns code(), for code without a loop. g++ compiles it without fused operations too.
template <class Code>
auto run_scalar(Code code) {
  return vector_code::baseline(code);
}

/// Calls body(i) for begin <= i < end, compiled for `isa`.
template <LoopBody Body>
void vectorize_as(Isa isa, index_t begin, index_t end, Body body) {
  run_as(isa, vector_code::Loop<Body>{begin, end, body});
}

/// Calls body(i) for begin <= i < end in the machine's widest vectors, on the calling thread. body: for clang its
/// arithmetic has TESSERA_ROUND_EACH_OPERATION. Throws only what body throws.
template <LoopBody Body>
void vectorize(index_t begin, index_t end, Body body) {
  vectorize_as(best_isa(), begin, end, body);
}

}  // namespace tessera::exec
