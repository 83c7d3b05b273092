// expect: the third argument must be a precision, such as Fp32 or Bf16
#include <tessera/tessera.hpp>
template class tessera::Sharded<tessera::Adam, tessera::Stage1, tessera::Local, tessera::Bf16>;
