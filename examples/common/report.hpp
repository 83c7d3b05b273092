// What a run leaves behind: a table, and a report as JSON.
#pragma once

#include <string>

#include "common/options.hpp"
#include "common/result.hpp"

namespace example {

/// What each rank held, planned and counted, and sent.
void print_ranks(const Result& result);

/// What a person wants to know of a run on images.
void print(const Result& result);

/// Written beside the file and renamed, so that a report is whole or not there. Throws std::runtime_error.
void write_report(const std::string& example, const Options& options, const Result& result);

}  // namespace example
