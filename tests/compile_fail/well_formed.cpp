// expect-success
#include <tessera/tessera.hpp>
template class tessera::Sharded<tessera::Adam, tessera::Stage3, tessera::Bf16, tessera::Local>;
