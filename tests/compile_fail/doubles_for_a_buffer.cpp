// expect: T = float(.|\n)*a std::span, std::vector or std::array of T|array of T(.|\n)*CallersBuffer<float>
#include <vector>

#include <tessera/tessera.hpp>
using Optimizer = tessera::Sharded<tessera::Adam, tessera::Stage1>;
Optimizer::Buffers buffers(std::vector<double>& gradients) { return {.gradients = gradients}; }
