// A loop over elements as a kernel: in packs of 16-byte accesses where the body has them.
#pragma once

#include <cuda_runtime.h>

#include <concepts>
#include <utility>

#include <tessera/core/config.hpp>
#include <tessera/core/math.hpp>
#include <tessera/cuda/device.cuh>
#include <tessera/exec/executor.hpp>

namespace tessera::device {

/// How a loop lies on the device.
struct LoopTuning {
  int threads;                  // a block
  int blocks_a_multiprocessor;  // as many are there at a time, and stay as long as the loop lasts
};

/// Memory is at full speed while some 40 KiB a multiprocessor are on their way (Little's law: 3 to 5 TB/s over 100 to
/// 150 multiprocessors, near 1 us). AdamW in floats reads 64 bytes a thread and pack: 1024 threads have 64 KiB on their
/// way, and leave a thread 64 registers, so that a rule with many numbers keeps them there.
inline constexpr LoopTuning loop_tuning{.threads = 256, .blocks_a_multiprocessor = 4};

/// What runs in the end: a Deferred body's loaded(), or the body itself.
template <class Body>
struct Runs {
  using Type = Body;
};
template <Deferred Body>
struct Runs<Body> {
  using Type = decltype(std::declval<const Body&>().loaded());
};

/// A body of which pack_elements elements can be done at a time too, from the lead()-th on (told on the host).
template <class Body>
concept Packed = requires(const Body body, const typename Runs<Body>::Type runs) {
  { body.lead() } -> std::convertible_to<index_t>;
  runs.template pack<Body::pack_elements>(index_t{});
};

/// This thread's part of body(i) for 0 <= i < n. pack: elements of a pack, or 1. head: how many come before the first.
///
///     |head| pack | pack | pack | ... |tail|
template <int pack, class Body>
__device__ void loop(index_t n, index_t head, const Body& body) {
  const index_t first = thread_of_grid(), threads = threads_of_grid();
  index_t packed = 0;  // elements
  if constexpr (pack > 1) {
    packed = (n - head) / pack * pack;
    for (index_t i = head + first * pack; i < head + packed; i += threads * pack) body.template pack<pack>(i);
  }
  const index_t others = n - packed;
#pragma unroll 1
  for (index_t k = first; k < others; k += threads) body(k < head ? k : k + packed);
}

template <int pack, class Body>
__global__ void __launch_bounds__(loop_tuning.threads, loop_tuning.blocks_a_multiprocessor)
    for_each_kernel(index_t n, index_t head, const __grid_constant__ Body body) {
  if constexpr (Deferred<Body>) {
    if (body.runs()) loop<pack>(n, head, body.loaded());
  } else {
    loop<pack>(n, head, body);
  }
}

template <class Body>
__global__ void once_kernel(const __grid_constant__ Body body) {
  body();
}

/// Enqueues body(i) for 0 <= i < n on `stream`. body: trivially copyable, at most 4 KiB; its call is TESSERA_HD and
/// touches what no other call touches. n = 0 launches nothing.
template <class Body>
void for_each(index_t n, const Body& body, int multiprocessors, cudaStream_t stream) {
  if (n == 0) return;
  const index_t most = static_cast<index_t>(multiprocessors) * loop_tuning.blocks_a_multiprocessor;
  const index_t blocks = blocks_for(n, loop_tuning.threads, most);
  if constexpr (Packed<Body>) {
    const index_t lead = body.lead();
    const index_t head = lead < 0 ? n : min(lead, n);  // never aligned: all is head
    launch(for_each_kernel<Body::pack_elements, Body>, blocks, loop_tuning.threads, stream, n, head, body);
  } else {
    launch(for_each_kernel<1, Body>, blocks, loop_tuning.threads, stream, n, n, body);
  }
}

}  // namespace tessera::device
