// expect: state is sharded less widely than gradients
#include <tessera/stage/stage.hpp>
struct Stage4 : tessera::Stage<tessera::placement::replicated, tessera::placement::world, tessera::placement::replicated> {};
