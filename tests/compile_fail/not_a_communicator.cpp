// expect: the fourth argument must be a communicator, such as Local
#include <tessera/tessera.hpp>
template class tessera::Sharded<tessera::Adam, tessera::Stage1, tessera::Bf16, tessera::Host>;
