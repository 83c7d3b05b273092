// The options that all examples have.
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
  std::int64_t steps = 0;  ///< from the beginning of the run; 0: set by `epochs`
  int batch = 64;          ///< samples per step, over all ranks and passes
  int micro_batches = 1;   ///< of each rank per step, if that divides the batch
  double lr = 0;
  std::int64_t seed = 1;
  std::string data;
  std::string report;
  std::string timeline;

  /// Micro-batches of a step over all ranks: at least one per rank and pass, and the smallest number that divides the
  /// batch. If the number of ranks does not divide it, only the first ranks have one in the last pass.
  int step_micro_batches() const {
    for (int m = std::min(batch, ranks * micro_batches);; ++m)
      if (batch % m == 0) return m;
  }
  /// Passes per step.
  int passes() const { return (step_micro_batches() + ranks - 1) / ranks; }
  /// Samples per micro-batch.
  int micro_batch() const { return batch / step_micro_batches(); }
};

/// An error in the options that only the data or the model can find: main returns wrong().
struct WrongOption : std::runtime_error {
  using std::runtime_error::runtime_error;
};

}  // namespace example
