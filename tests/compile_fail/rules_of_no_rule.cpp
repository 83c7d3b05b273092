// expect: the first argument must be an update rule, such as Adam, or Rules<...> of several
#include <tessera/tessera.hpp>
struct NotARule {
  float lr = 1;
};
template class tessera::Sharded<tessera::Rules<tessera::Adam, NotARule>, tessera::Stage1>;
