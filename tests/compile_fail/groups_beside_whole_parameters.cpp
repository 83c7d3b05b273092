// expect: gradients are sharded over groups only where parameters are
#include <tessera/stage/stage.hpp>
struct Wrong : tessera::Stage<tessera::placement::replicated, tessera::placement::group, tessera::placement::world> {};
