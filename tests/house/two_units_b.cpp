// The translation unit with all optimizations, wide vectors and fused multiply-add.
#include <vector>

#include "two_units.hpp"

std::vector<std::uint32_t> bits_of_b(tessera::exec::Isa isa) { return two_units::bits(isa); }
