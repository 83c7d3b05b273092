// The assignment of a step's micro-batches to ranks: round-robin, pass by pass.
//
//     7 micro-batches on 3 ranks:   pass 0: 0 1 2   pass 1: 3 4 5   pass 2: 6 . .   (ranks 1 and 2 are idle in pass 2)
#pragma once

#include <tessera/core/math.hpp>

namespace tessera::layout {

/// Micro-batch j of a step belongs to rank j % world in pass j / world. Every rank makes every pass; in the last pass
/// some ranks may be idle.
struct MicroBatches {
  index_t count = 1;  ///< of the step, over all ranks
  int world = 1;

  constexpr int passes() const noexcept { return static_cast<int>(ceil_div(count, world)); }
  /// The number of micro-batches in earlier passes.
  constexpr index_t before(int pass) const noexcept { return index_t{pass} * world; }
  /// The number of ranks that have a micro-batch in this pass. They are the first ranks.
  constexpr int in_pass(int pass) const noexcept { return static_cast<int>(min(count - before(pass), index_t{world})); }
  constexpr bool has(int rank, int pass) const noexcept { return before(pass) + rank < count; }
};

}  // namespace tessera::layout
