// expect: the first argument must be an update rule, such as Adam
#include <tessera/tessera.hpp>
struct NotARule {
  float lr = 1;
};
template class tessera::Sharded<NotARule, tessera::Stage1>;
