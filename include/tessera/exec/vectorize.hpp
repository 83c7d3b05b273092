// Runs code in the widest vectors that the machine has, whatever flags the caller compiles with. Each piece of code is
// compiled three times inside this header and one is chosen at run time. All three have the same bits: a product and a
// sum are never fused into one rounding, and no order of operations depends on where a range is cut.
#pragma once

#include <tessera/core/config.hpp>
#include <tessera/core/math.hpp>
#include <tessera/exec/loop_body.hpp>

// Never inlined: a compiler moves arithmetic past a change of the floating-point environment, but not past a call.
// g++ would contract under a user's -march=native or -mfma. Flattening takes in whatever the body calls, so that none
// of it keeps the user's flags. (clang has the pragma of TESSERA_ROUND_EACH_OPERATION, which stands in the body.)
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

/// What the code is compiled for. `baseline` is whatever the caller's flags say.
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

/// How far ahead of use a body asks for memory, in elements. bench/update on a Zen 3 at 2^24 elements, one thread, of
/// the ceiling: without 0.94 (fp32) and 0.85 (bf16), 64: 0.97 0.95, 256: 0.98 0.98, 512: 0.97 0.96, 1024: 0.86 0.80.
inline constexpr index_t prefetch_distance = 256;

/// Asks for the memory that a block of elements `prefetch_distance` behind `from` will need. What is not there is no
/// harm.
template <class T>
TESSERA_ALWAYS_INLINE void prefetch_block(const T* from) noexcept {
  constexpr index_t line = 64 / sizeof(T);
  for (index_t j = 0; j < block; j += line) __builtin_prefetch(from + prefetch_distance + j, 1);
}

// At a plain -O2 g++ vectorises only loops whose trip count it knows and whose pointers it need not compare: hence
// blocks of a constant length, said to be independent.
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

  // Some blocks at a time, which are in the first-level cache still.
  TESSERA_ALWAYS_INLINE void look(index_t& looked_at, index_t done) const {
    if constexpr (CheckingBody<Body>) {
      if (done - looked_at < 16 * block) return;
      body.after(looked_at, done);
      looked_at = done;
    }
  }

  //   first  | block 0 | block 1 | block 2 |            The processor looks only a few vectors ahead. What waits for
  //   last             | block 0 | block 1 | block 2 |  a division fills that window and hides the divisions to come,
  //                                                     unless it comes when the division is long done.
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

/// The widest that this machine has and this header knows.
inline Isa best_isa() noexcept {
  static const Isa best = vector_code::detect();
  return best;
}

/// Calls code() compiled for `isa`, which the machine must have (as all below best_isa() are).
/// code: a functor whose call is always inlined (TESSERA_ALWAYS_INLINE), or it stays as the caller's flags made it.
template <class Code>
void run_as(Isa isa, Code code) {
#if defined(__x86_64__)
  if (isa == Isa::avx512) return vector_code::avx512(code);
  if (isa == Isa::avx2) return vector_code::avx2(code);
#endif
  static_cast<void>(isa);
  vector_code::baseline(code);
}

/// What code() returns, which is no loop: also with one rounding an operation, if g++ compiles it.
template <class Code>
auto run_scalar(Code code) {
  return vector_code::baseline(code);
}

/// Calls body(i) for begin <= i < end, compiled for `isa`.
template <LoopBody Body>
void vectorize_as(Isa isa, index_t begin, index_t end, Body body) {
  run_as(isa, vector_code::Loop<Body>{begin, end, body});
}

/// Calls body(i) for begin <= i < end in the widest vectors of the machine, on the caller's thread. body: on clang its
/// arithmetic is under TESSERA_ROUND_EACH_OPERATION. Does not throw unless body does.
template <LoopBody Body>
void vectorize(index_t begin, index_t end, Body body) {
  vectorize_as(best_isa(), begin, end, body);
}

}  // namespace tessera::exec
