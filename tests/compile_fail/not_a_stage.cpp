// expect: the second argument must be a stage, Stage0 to Stage3, or a struct with a name, derived from tessera::Stage
#include <tessera/tessera.hpp>
struct ThreeFlags {
  static constexpr const char* name = "ThreeFlags";
  static constexpr bool shards_state = true, shards_gradients = true, shards_parameters = true;
};
template class tessera::Sharded<tessera::Adam, ThreeFlags>;
