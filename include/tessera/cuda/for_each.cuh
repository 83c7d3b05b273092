// A loop over elements as a kernel: in packs of 16-byte accesses where the body has them.
#pragma once

#include <cuda_runtime.h>

#include <concepts>

#include <tessera/core/config.hpp>
#include <tessera/core/math.hpp>
#include <tessera/cuda/launch.cuh>

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

/// A body that is completed on the spot, by numbers in the device's memory.
template <class Body>
concept CompletedThere = requires(const Body body) {
  { body.runs() } -> std::convertible_to<bool>;
  body.loaded();
};

/// A body that does pack_elements elements at a time as well, from the lead()-th on.
template <class Body>
concept Packed = requires(const Body body) {
  { body.lead() } -> std::convertible_to<index_t>;
  body.template pack<Body::pack_elements>(index_t{});
};

/// This thread's part of body(i) for 0 <= i < n.
///
///     |head| pack | pack | pack | ... |tail|     head: up to the first address at which all arrays are aligned
template <class Body>
__device__ void loop(index_t n, const Body& body) {
  const index_t first = thread_of_grid(), threads = threads_of_grid();
  if constexpr (Packed<Body>) {
    constexpr index_t each = Body::pack_elements;
    const index_t head = body.lead();
    if (head >= 0 && head < n) {
      const index_t packs = (n - head) / each;
      for (index_t i = first; i < head; i += threads) body(i);
      for (index_t p = first; p < packs; p += threads) body.template pack<Body::pack_elements>(head + p * each);
      for (index_t i = head + packs * each + first; i < n; i += threads) body(i);
      return;
    }
  }
  for (index_t i = first; i < n; i += threads) body(i);
}

template <class Body>
__global__ void __launch_bounds__(loop_tuning.threads, loop_tuning.blocks_a_multiprocessor)
    for_each_kernel(index_t n, const __grid_constant__ Body body) {
  if constexpr (CompletedThere<Body>) {
    if (body.runs()) loop(n, body.loaded());
  } else {
    loop(n, body);
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
  launch(for_each_kernel<Body>, blocks_for(n, loop_tuning.threads, most), loop_tuning.threads, stream, n, body);
}

}  // namespace tessera::device
