// expect: use of deleted function|attempt to use a deleted function|overload resolution selected deleted
#include <tessera/tessera.hpp>
float first(tessera::Sharded<tessera::Adam, tessera::Stage3>& optimizer, tessera::Unit unit, tessera::Tensor tensor) {
  return optimizer.gather(unit)[tensor][0];
}
