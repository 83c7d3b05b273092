// The micro-batches of a step, and which rank has which: they are dealt to the ranks in turn, pass by pass.
//
//     7 micro-batches on 3 ranks:   pass 0: 0 1 2   pass 1: 3 4 5   pass 2: 6 . .   (ranks 1 and 2 are idle in pass 2)
#pragma once

#include <tessera/core/math.hpp>

namespace tessera::layout {

/// Micro-batch j of a step is that of rank j % world in pass j / world. Every rank makes every pass; in the last one
/// ranks may be idle.
struct MicroBatches {
  index_t count = 1;  ///< of the step, over all ranks
  int world = 1;

  constexpr int passes() const noexcept { return static_cast<int>(ceil_div(count, world)); }
  /// Micro-batches of earlier passes.
  constexpr index_t before(int pass) const noexcept { return index_t{pass} * world; }
  /// Ranks that have one in this pass: those below this number.
  constexpr int in_pass(int pass) const noexcept { return static_cast<int>(min(count - before(pass), index_t{world})); }
  constexpr bool has(int rank, int pass) const noexcept { return before(pass) + rank < count; }
};

}  // namespace tessera::layout
