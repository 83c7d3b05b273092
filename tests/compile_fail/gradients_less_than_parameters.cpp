// expect: gradients are sharded less widely than parameters
#include <tessera/stage/stage.hpp>
struct Stage4 : tessera::Stage<tessera::placement::world, tessera::placement::replicated, tessera::placement::world> {};
