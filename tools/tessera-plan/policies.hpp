// The library's policies by their names, as a command line has them.
#pragma once

#include <string>
#include <vector>

#include <tessera/layout/plan.hpp>

namespace plan {

std::vector<std::string> rules();
std::vector<std::string> precisions();
/// The first that fits and is fast enough is recommended; the last holds the least.
std::vector<std::string> stages();

/// What Sharded<rule, stage, precision> hands to its plan. Throws std::out_of_range for names that are not listed.
tessera::Footprint footprint(const std::string& rule, const std::string& precision, const std::string& stage);

}  // namespace plan
