// expect: name one of the optimizer's rules, as in rule<AdamW>\(0\)
#include <tessera/tessera.hpp>
using Optimizer = tessera::Sharded<tessera::Rules<tessera::Lion, tessera::AdamW>, tessera::Stage1>;
void set(Optimizer& optimizer) { static_cast<void>(optimizer.rule(0)); }
