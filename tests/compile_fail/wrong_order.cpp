// expect: the first argument must be an update rule, such as Adam
#include <tessera/tessera.hpp>
using Optimizer = tessera::Sharded<tessera::Stage1, tessera::Adam>;
template class tessera::Sharded<tessera::Stage1, tessera::Adam>;
