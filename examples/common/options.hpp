// What may be chosen of a run of any example.
#pragma once

#include <algorithm>
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
  int micro_batches = 1;   ///< of each rank in one step, where the batch divides so
  double lr = 0;
  std::int64_t seed = 1;
  std::string data;
  std::string report;
  std::string timeline;

  /// Micro-batches of a step over all ranks: the fewest, but one for every rank and pass, that share the batch evenly.
  /// Where ranks do not divide them, the last pass is that of the first ranks alone.
  int step_micro_batches() const {
    for (int m = std::min(batch, ranks * micro_batches);; ++m)
      if (batch % m == 0) return m;
  }
  /// Passes of a step.
  int passes() const { return (step_micro_batches() + ranks - 1) / ranks; }
  /// Samples of one micro-batch.
  int micro_batch() const { return batch / step_micro_batches(); }
};

/// What only the data or the model can tell to be wrong with the options: main returns wrong().
struct WrongOption : std::runtime_error {
  using std::runtime_error::runtime_error;
};

}  // namespace example
