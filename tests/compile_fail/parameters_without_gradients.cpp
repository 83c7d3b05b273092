// expect: sharded parameters need sharded gradients, and those need sharded state
#include <tessera/tessera.hpp>
struct Stage4 {
  static constexpr const char* name = "Stage4";
  static constexpr bool shards_state = true;
  static constexpr bool shards_gradients = false;
  static constexpr bool shards_parameters = true;
};
template class tessera::Sharded<tessera::Adam, Stage4>;
