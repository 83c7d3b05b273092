// The local half of an ordered reduction: what all ranks sent lies here, and is summed in the fixed tree of
// comm/tree.hpp, scaled and rounded once, by one kernel.
#pragma once

#include <cuda_runtime.h>

#include <tessera/cuda/collectives/collectives.cuh>

namespace tessera::collectives {

/// The r-th rank's numbers are staged[r * stride + i], but this rank's own, which never left: own[i].
template <class In, class Out, int world>  // world: 0 is any
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

  // A tree over blocks of so many leaves, a power of two, is the tree over the leaves.
  static constexpr int leaves_of_block = 64;

  TESSERA_HD index_t size(int) const { return elements; }

  template <int n>
  TESSERA_HD void at(int, index_t i) const {
    const auto leaf = [this, i](int r) {
      return converted<SumType<Out>>(load<n>(r == rank ? own + i : staged + r * stride + i));
    };
    if constexpr (world > 0) {
      store(out + i, converted<Out>(scaled(sum_in_tree<0, world>(leaf), scale)));
    } else {
      const auto block_sum = [this, &leaf](int block) {
        const int first = block * leaves_of_block;
        return sum_in_tree(min(leaves_of_block, ranks - first), [&](int r) { return leaf(first + r); });
      };
      const int blocks_of_ranks = static_cast<int>(ceil_div(ranks, leaves_of_block));
      store(out + i, converted<Out>(scaled(sum_in_tree(blocks_of_ranks, block_sum), scale)));
    }
  }
};

/// The most ranks that it sums.
inline constexpr int most_staged_ranks = 64 * 127;

template <class In, class Out, int world>
void staged_sum_among(const StagedSum<In, Out, 0>& sum, const Share& share) {
  const StagedSum<In, Out, world> body{sum.staged,   sum.own,  sum.out,   sum.stride,
                                       sum.elements, sum.rank, sum.ranks, sum.scale};
  const bool packed = is_aligned<In>(sum.staged) && is_aligned<In>(sum.own) && is_aligned<In>(sum.out) &&
                      sum.stride % pack_elements<In> == 0;
  launch(share, body, 1, sum.elements, packed);
}

/// Kernels of their own for the usual numbers of ranks: see sum_in_tree().
template <class In, class Out>
void staged_sum(const StagedSum<In, Out, 0>& sum, const Share& share) {
  switch (sum.ranks) {
    case 1: return staged_sum_among<In, Out, 1>(sum, share);
    case 2: return staged_sum_among<In, Out, 2>(sum, share);
    case 4: return staged_sum_among<In, Out, 4>(sum, share);
    case 8: return staged_sum_among<In, Out, 8>(sum, share);
    default: return staged_sum_among<In, Out, 0>(sum, share);
  }
}

}  // namespace tessera::collectives
