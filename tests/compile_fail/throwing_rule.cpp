// expect: the first argument must be an update rule, such as Adam
#include <tessera/tessera.hpp>
struct Throwing : tessera::Adam {
  float operator()(float weight, float, State&, const Scalars&) const { return weight; }  // not noexcept
};
template class tessera::Sharded<Throwing, tessera::Stage1>;
