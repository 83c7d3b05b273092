// A loop over elements as a kernel, with 16-byte accesses (packs) if the body supports them.
#pragma once

#include <cuda_runtime.h>

#include <tessera/core/config.hpp>
#include <tessera/core/math.hpp>
#include <tessera/cuda/runtime/device.cuh>
#include <tessera/exec/loop_body.hpp>

namespace tessera::device {

/// The launch configuration of a loop.
struct LoopTuning {
  int threads;                  // per block
  int blocks_a_multiprocessor;  // all resident at once, for the duration of the loop
};

/// Full memory bandwidth needs about 40 KiB in flight per multiprocessor (Little's law: 3 to 5 TB/s over 100 to 150
/// multiprocessors, latency near 1 us). AdamW in floats reads 64 bytes per thread and pack. 1024 threads have 64 KiB in
/// flight, and leave 64 registers per thread, enough for rules with many variables.
inline constexpr LoopTuning loop_tuning{.threads = 256, .blocks_a_multiprocessor = 4};

template <class Body>
inline constexpr int elements_at_once = 1;
template <PackedBody Body>
inline constexpr int elements_at_once<Body> = Body::pack_elements;

/// The calling thread's part of a loop over n elements.
///
///     |. . 0 1|2 3 4 5|6 7 8 9|10 . . .|        n = 11 in groups of `pack` = 4, lead = 2
///
/// The compiler may fuse operations differently in each copy of a body. So one loop, which is not unrolled, handles all
/// packs, whole or not: the code that handles an element depends only on where its pack begins.
template <int pack, class Body>
__device__ void loop(index_t n, index_t lead, const Body& body) {
  const index_t stride = threads_of_grid() * pack;
#pragma unroll 1
  for (index_t i = thread_of_grid() * pack - lead; i < n; i += stride) {
    if constexpr (pack > 1) {
      body.template pack<pack>(i, n);
    } else {
      body(i);
    }
  }
}

template <int pack, class Body>
__global__ void __launch_bounds__(loop_tuning.threads, loop_tuning.blocks_a_multiprocessor)
    for_each_kernel(index_t n, index_t lead, const __grid_constant__ Body body) {
  if constexpr (LateBoundBody<Body>) {
    if (body.enabled()) loop<pack>(n, lead, body.bind());
  } else {
    loop<pack>(n, lead, body);
  }
}

template <class Body>
__global__ void once_kernel(const __grid_constant__ Body body) {
  body();
}

/// Enqueues body(i) for 0 <= i < n on `stream`. body: trivially copyable, at most 4 KiB; its call is TESSERA_HD and
/// accesses no data of another call. n = 0 launches nothing.
template <class Body>
void for_each(index_t n, const Body& body, int multiprocessors, cudaStream_t stream) {
  if (n == 0) return;
  constexpr int pack = elements_at_once<Body>;
  const index_t most = static_cast<index_t>(multiprocessors) * loop_tuning.blocks_a_multiprocessor;
  index_t lead = 0;
  if constexpr (PackedBody<Body>) lead = body.lead();
  launch(for_each_kernel<pack, Body>, blocks_for(lead + n, pack * loop_tuning.threads, most), loop_tuning.threads,
         stream, n, lead, body);
}

}  // namespace tessera::device
