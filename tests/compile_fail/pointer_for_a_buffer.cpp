// expect: CallersBuffer.*float ?\*[^]]*bfloat16(.|\n)*a std::span, std::vector or std::array of T|array of T(.|\n)*CallersBuffer<tessera::bfloat16>
#include <tessera/tessera.hpp>
using Optimizer = tessera::Sharded<tessera::Adam, tessera::Stage1, tessera::Bf16>;
Optimizer::Buffers buffers(float* parameters) { return {.parameters = parameters}; }
