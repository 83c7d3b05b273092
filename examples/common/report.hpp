// What a run leaves behind: a table, and a report as JSON.
#pragma once

#include <string>

#include <tessera/timeline/timeline.hpp>

#include "common/options.hpp"
#include "common/result.hpp"

namespace example {

/// What each rank held, planned and counted, and sent.
void print_ranks(const Result& result);

/// What a person wants to know of a run on images.
void print(const Result& result);

/// Written beside the file and renamed, so that a file is whole or not there. Throws std::runtime_error with the cause.
/// In a report a loss that is not finite is null, and "diverged" is null or says what was seen first.
void write_report(const std::string& example, const Options& options, const Result& result);
void write_timeline(const tessera::Timeline& timeline, const std::string& path);

/// Once all is printed: writes the report, and is what main returns. 1 after one line where the output could not be
/// written, or the training diverged.
int end(const std::string& example, const Options& options, const Result& result);

}  // namespace example
