// expect: the stage shards over groups of ranks, which the communicator does not have
#include <tessera/tessera.hpp>
struct NoGroups : tessera::Local {
  static constexpr bool has_groups = false;
};
using Optimizer = tessera::Sharded<tessera::Sgd, tessera::StageHybrid, tessera::Fp32, NoGroups>;
auto plan = Optimizer::plan(tessera::Layout::flat(1), 1);
