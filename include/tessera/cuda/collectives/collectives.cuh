// The kernels of CudaSelf and CudaLocal. One launch per device performs a collective for all ranks of the device and
// reads the peers' memory directly. Sums have the bits of comm/tree.hpp: additions followed by one multiplication,
// which no compiler may fuse or reorder.
#pragma once

#include <cuda_runtime.h>

#include <span>

#include <tessera/comm/local/operation.hpp>
#include <tessera/core/config.hpp>
#include <tessera/core/math.hpp>
#include <tessera/cuda/runtime/device.cuh>
#include <tessera/cuda/runtime/error.cuh>
#include <tessera/cuda/collectives/tree.cuh>

namespace tessera::collectives {

using Call = local::PieceOfCall;
using local::Ends;

/// The maximum number of ranks, whose addresses are passed as kernel arguments.
inline constexpr int most_ranks = 64;

// Threads per block, and blocks per multiprocessor while a kernel runs. Full memory bandwidth needs about 40 KiB in
// flight per multiprocessor. A thread of a sum has 16 bytes of every rank in flight and needs up to 64 registers; a
// thread of a copy has 16 bytes in flight and needs 32 registers.
inline constexpr int threads = 256;
inline constexpr int blocks_of_a_sum = 4;
inline constexpr int blocks_of_a_copy = 8;

/// One device's share of a collective: it computes what its own ranks receive.
struct Share {
  cudaStream_t stream = nullptr;  // a stream of the current device
  int multiprocessors = 0;
  std::span<const int> ranks;
  int device = 0;  // index of this device among `devices`
  int devices = 1;
};

/// The bodies of the kernels: at<n>(slice, i) is called once for each i and handles n elements of the slice from i on.
template <class In, class Out, int world>  // 0: any number of ranks
struct ReduceScatter {
  using Element = In;
  static constexpr int blocks = blocks_of_a_sum;
  struct Own {
    Out* out;
    float* sums;
    index_t begin;
    index_t size;
  };

  const In* in[most_ranks];
  Own own[most_ranks];
  Carry carry;
  float scale;

  TESSERA_HD index_t size(int slice) const { return own[slice].size; }

  template <int n>
  TESSERA_HD void at(int slice, index_t i) const {
    const auto leaf = [from = in, at = own[slice].begin + i](int r) {
      return converted<SumType<Out>>(load<n>(from[r] + at));
    };
    continue_sum<world, n>(carry, own[slice].sums, i, leaf, scale, own[slice].out);
  }
};

// The thread that writes an element on all ranks is the one that reads it on all ranks.
template <class T>
struct AllReduce {
  using Element = T;
  static constexpr int blocks = blocks_of_a_sum;

  T* inout[most_ranks];
  int ranks;
  Slice part;

  TESSERA_HD index_t size(int) const { return part.size; }

  template <int n>
  TESSERA_HD void at(int, index_t i) const {
    const index_t at = part.begin + i;
    const auto sum =
        converted<T>(sum_in_tree(ranks, [&](int r) { return converted<SumType<T>>(load<n>(inout[r] + at)); }));
    for (int r = 0; r < ranks; ++r) store(inout[r] + at, sum);
  }
};

// Reads each element once for all ranks of the device. Skips elements that are already in place.
template <class T>
struct Gather {
  using Element = T;
  static constexpr int blocks = blocks_of_a_copy;

  const T* in[most_ranks];  // the slices of a vector
  T* out[most_ranks];       // the vectors
  int outs;
  index_t elements;
  index_t part;

  TESSERA_HD index_t size(int slice) const { return Slice(elements, part, slice).size; }

  template <int n>
  TESSERA_HD void at(int slice, index_t i) const {
    const T* const from = in[slice] + i;
    const auto values = load<n>(from);
    for (int r = 0; r < outs; ++r) {
      T* const to = out[r] + slice * part + i;
      if (to != from) store(to, values);
    }
  }
};

template <class T>
struct AllToAll {
  using Element = T;
  static constexpr int blocks = blocks_of_a_copy;

  const T* in[most_ranks];
  struct Own {
    T* out;
    int rank;
  } own[most_ranks];
  int ranks;
  index_t part;

  TESSERA_HD index_t size(int) const { return part; }

  template <int n>
  TESSERA_HD void at(int slice, index_t i) const {
    const int from = slice % ranks;
    const Own& to = own[slice / ranks];
    store(to.out + from * part + i, load<n>(in[from] + to.rank * part + i));
  }
};

template <class Body>
__global__ void over_slices(const __grid_constant__ Body body, bool packed) {
  constexpr int n = pack_elements<typename Body::Element>;
  const int slice = static_cast<int>(blockIdx.y);
  const index_t size = body.size(slice);
  const index_t first = device::thread_of_grid(), stride = device::threads_of_grid();
  const index_t packs = packed ? size / n : 0;
  for (index_t p = first; p < packs; p += stride) body.template at<n>(slice, p * n);
  for (index_t i = packs * n + first; i < size; i += stride) body.template at<1>(slice, i);
}

template <class Body>
void launch(const Share& share, const Body& body, index_t slices, index_t longest, bool packed) {
  if (slices == 0 || longest == 0) return;
  const index_t accesses = packed ? ceil_div(longest, pack_elements<typename Body::Element>) : longest;
  const index_t most = max(share.multiprocessors * Body::blocks / slices, index_t{1});
  cudaLaunchConfig_t config{};
  config.gridDim =
      dim3(static_cast<unsigned>(device::blocks_for(accesses, threads, most)), static_cast<unsigned>(slices));
  config.blockDim = dim3(threads);
  config.stream = share.stream;
  cuda_check(cudaLaunchKernelEx(&config, over_slices<Body>, body, packed), "a collective's kernel");
}

template <class In, class Out, int world>
void reduce_scatter_among(const Call& call, std::span<const Ends> ranks, const Share& share) {
  ReduceScatter<In, Out, world> body{};
  body.carry = call.carry;
  body.carry.leaves = min(call.carry.leaves, static_cast<int>(ranks.size()));
  body.scale = call.scale;
  bool packed = call.part % pack_elements<In> == 0 && call.carry.stride % pack_elements<In> == 0;
  for (std::size_t r = 0; r < ranks.size(); ++r) {
    body.in[r] = local::input<In>(ranks[r]);
    packed = packed && is_aligned<In>(body.in[r]);
  }
  index_t slices = 0;
  for (const int r : share.ranks) {
    const Slice slice(call.elements, call.part, call.groups.slice(Ranks::world, r));
    if (slice.size == 0) continue;
    Out* const own = local::output<Out>(ranks[to_size(r)]);
    float* const sums = ranks[to_size(r)].sums;
    body.own[to_size(slices++)] = {own, sums, slice.begin, slice.size};
    packed = packed && is_aligned<In>(own) && is_aligned<In>(sums);
  }
  launch(share, body, slices, min(call.part, call.elements), packed);
}

/// Separate kernels without branches for common numbers of ranks: see sum_in_tree().
template <class In, class Out>
void reduce_scatter(const Call& call, std::span<const Ends> ranks, const Share& share) {
  switch (call.carry.leaves < std::ssize(ranks) ? 0 : ranks.size()) {
    case 1: return reduce_scatter_among<In, Out, 1>(call, ranks, share);
    case 2: return reduce_scatter_among<In, Out, 2>(call, ranks, share);
    case 4: return reduce_scatter_among<In, Out, 4>(call, ranks, share);
    case 8: return reduce_scatter_among<In, Out, 8>(call, ranks, share);
    default: return reduce_scatter_among<In, Out, 0>(call, ranks, share);
  }
}

// Each element is assigned to one device.
template <class T>
void all_reduce(const Call& call, std::span<const Ends> ranks, const Share& share) {
  const index_t part = round_up(ceil_div(call.elements, share.devices), block);
  AllReduce<T> body{.inout = {}, .ranks = static_cast<int>(ranks.size()), .part = {call.elements, part, share.device}};
  bool packed = true;
  for (std::size_t r = 0; r < ranks.size(); ++r) {
    body.inout[r] = local::output<T>(ranks[r]);
    packed = packed && is_aligned<T>(body.inout[r]);
  }
  launch(share, body, 1, body.part.size, packed);
}

template <class T>
void all_gather(const Call& call, std::span<const Ends> ranks, const Share& share) {
  Gather<T> body{};
  body.elements = call.elements;
  body.part = call.part;
  bool packed = call.part % pack_elements<T> == 0;
  index_t slices = 0;
  for (; slices < std::ssize(ranks) && body.size(static_cast<int>(slices)) > 0; ++slices) {
    const T* const in = local::input<T>(ranks[to_size(call.groups.owner(static_cast<int>(slices)))]);
    body.in[to_size(slices)] = in;
    packed = packed && is_aligned<T>(in);
  }
  for (const int r : share.ranks) {
    T* const out = local::output<T>(ranks[to_size(r)]);
    body.out[to_size(body.outs++)] = out;
    packed = packed && is_aligned<T>(out);
  }
  launch(share, body, slices, min(call.part, call.elements), packed);
}

template <class T>
void broadcast(const Call& call, std::span<const Ends> ranks, const Share& share) {
  Gather<T> body{};
  body.elements = body.part = call.elements;
  body.in[0] = local::output<const T>(ranks[call.root]);
  bool packed = is_aligned<T>(body.in[0]);
  for (const int r : share.ranks) {
    if (r == call.root) continue;
    T* const out = local::output<T>(ranks[to_size(r)]);
    body.out[to_size(body.outs++)] = out;
    packed = packed && is_aligned<T>(out);
  }
  launch(share, body, body.outs > 0, call.elements, packed);
}

template <class T>
void all_to_all(const Call& call, std::span<const Ends> ranks, const Share& share) {
  AllToAll<T> body{};
  body.ranks = static_cast<int>(ranks.size());
  body.part = call.elements / std::ssize(ranks);
  bool packed = body.part % pack_elements<T> == 0;
  for (std::size_t r = 0; r < ranks.size(); ++r) {
    body.in[r] = local::input<T>(ranks[r]);
    packed = packed && is_aligned<T>(body.in[r]);
  }
  index_t outs = 0;
  for (const int r : share.ranks) {
    body.own[outs++] = {local::output<T>(ranks[r]), r};
    packed = packed && is_aligned<T>(local::output<T>(ranks[r]));
  }
  launch(share, body, outs * std::ssize(ranks), body.part, packed);
}

}  // namespace tessera::collectives
