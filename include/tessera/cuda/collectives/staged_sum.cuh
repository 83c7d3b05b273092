// The local part of an ordered reduction: one kernel sums the data received from all ranks in the fixed tree of
// comm/tree.hpp, scales the sum and rounds it once.
#pragma once

#include <cuda_runtime.h>

#include <tessera/cuda/collectives/collectives.cuh>

namespace tessera::collectives {

/// Rank r's element i is staged[r * stride + i]. This rank's own data was not sent: own[i].
template <class In, class Out, int world>  // 0: any up to 64; many_ranks: any
struct StagedSum {
  using Element = In;
  static constexpr int blocks = blocks_of_a_sum;

  const In* staged;
  const In* own;
  Out* out;
  index_t stride;
  index_t elements;
  int rank;
  int ranks;
  float scale = 1;
  Carry carry{};
  float* sums = nullptr;

  TESSERA_HD index_t size(int) const { return elements; }

  template <int n>
  TESSERA_HD void at(int, index_t i) const {
    const auto leaf = [this, i](int r) {
      return converted<SumType<Out>>(load<n>(r == rank ? own + i : staged + r * stride + i));
    };
    continue_sum<world, n>(carry, reinterpret_cast<SumType<Out>*>(sums), i, leaf, scale, out);
  }
};

/// The maximum number of ranks: fewer than twice the leaves of a block.
inline constexpr int most_staged_ranks = (2 << 12) - 1;

template <class In, class Out, int world>
void staged_sum_among(const StagedSum<In, Out, 0>& sum, const Share& share) {
  StagedSum<In, Out, world> body{sum.staged, sum.own,   sum.out,   sum.stride, sum.elements,
                                 sum.rank,   sum.ranks, sum.scale, sum.carry,  sum.sums};
  body.carry.leaves = min(sum.carry.leaves, sum.ranks);
  const bool packed = is_aligned<In>(sum.staged) && is_aligned<In>(sum.own) && is_aligned<In>(sum.out) &&
                      sum.stride % pack_elements<In> == 0 && is_aligned<In>(sum.sums) &&
                      sum.carry.stride % pack_elements<In> == 0;
  launch(share, body, 1, sum.elements, packed);
}

/// Separate kernels for common numbers of ranks: see sum_in_tree().
template <class In, class Out>
void staged_sum(const StagedSum<In, Out, 0>& sum, const Share& share) {
  if (sum.ranks > 64) return staged_sum_among<In, Out, many_ranks>(sum, share);
  switch (sum.carry.leaves < sum.ranks ? 0 : sum.ranks) {
    case 1: return staged_sum_among<In, Out, 1>(sum, share);
    case 2: return staged_sum_among<In, Out, 2>(sum, share);
    case 4: return staged_sum_among<In, Out, 4>(sum, share);
    case 8: return staged_sum_among<In, Out, 8>(sum, share);
    default: return staged_sum_among<In, Out, 0>(sum, share);
  }
}

}  // namespace tessera::collectives
