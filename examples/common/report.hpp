// The output of a run: a table, and a report as JSON.
#pragma once

#include <string>

#include <tessera/timeline/timeline.hpp>

#include "common/options.hpp"
#include "common/result.hpp"

namespace example {

/// Prints the bytes of each rank, planned and counted, and the elements that it sent.
void print_ranks(const Result& result);

/// Prints a summary of a run on images.
void print(const Result& result);

/// Writes a temporary file and renames it, so that the report is complete or does not exist. Throws std::runtime_error
/// with the cause. A loss that is not finite is null, and "diverged" is null or the first sign of divergence.
void write_report(const std::string& example, const Options& options, const Result& result);
void write_timeline(const tessera::Timeline& timeline, const std::string& path);

/// Call it after all output: writes the report and returns main's status. 1, after one line, if the output could not be
/// written or the training diverged.
int end(const std::string& example, const Options& options, const Result& result);

}  // namespace example
