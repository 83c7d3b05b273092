// The unit with all optimisations and wide vectors.
#include "two_units.hpp"

std::vector<std::uint32_t> bits_of_b() { return two_units::bits(); }
