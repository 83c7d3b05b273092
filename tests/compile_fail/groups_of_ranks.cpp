// expect: nothing is sharded over groups of ranks yet
#include <tessera/stage/stage.hpp>
struct Hybrid : tessera::Stage<tessera::placement::group, tessera::placement::group, tessera::placement::world> {};
