// What may be chosen of a run of any example.
#pragma once

#include <cstdint>
#include <stdexcept>
#include <string>

namespace example {

struct Options {
  int ranks = 2;
  int stage = 3;
  std::string precision = "fp32";
  std::string optimizer = "adamw";
  int epochs = 5;
  std::int64_t steps = 0;  ///< from the run's beginning; 0: as `epochs` says
  int batch = 64;          ///< samples a step, over all ranks and passes
  int micro_batches = 1;   ///< passes of each rank a step
  double lr = 0;
  std::int64_t seed = 1;
  std::string data;
  std::string report;
  std::string timeline;

  /// Samples of one pass of one rank.
  int micro_batch() const { return batch / (ranks * micro_batches); }
};

/// What only the data or the model can tell to be wrong with the options: main returns wrong().
struct WrongOption : std::runtime_error {
  using std::runtime_error::runtime_error;
};

}  // namespace example
