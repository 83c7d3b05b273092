// expect: its Gradient, Reduction and State are ones of 1, 2, 4 or 8
#include <tessera/tessera.hpp>
struct Whole : tessera::Fp32 {
  static constexpr const char* name = "Whole";
  using Gradient = int;
};
template class tessera::Sharded<tessera::Adam, tessera::Stage1, Whole>;
