// The library's policies by their names, as a command line has them.
#pragma once

#include <string>
#include <vector>

#include <tessera/layout/plan.hpp>

namespace plan {

std::vector<std::string> rules();
std::vector<std::string> precisions();

/// What Sharded<rule, stage, precision> hands to its plan. Throws std::out_of_range for names that are not listed.
tessera::Footprint footprint(const std::string& rule, const std::string& precision, int stage);

}  // namespace plan
