// expect: state is sharded over groups only where gradients are
#include <tessera/stage/stage.hpp>
struct Wrong : tessera::Stage<tessera::placement::replicated, tessera::placement::replicated, tessera::placement::group> {};
