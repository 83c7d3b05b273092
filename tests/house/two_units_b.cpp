// The unit with all optimisations, wide vectors and fused multiply-add allowed.
#include <vector>

#include "two_units.hpp"

std::vector<std::uint32_t> bits_of_b(tessera::exec::Isa isa) { return two_units::bits(isa); }
