// The result of a run.
#pragma once

#include <string>

#include "common/result.hpp"

namespace transformer {

struct Outcome {
  example::Result result;
  double loss_before = 0;  ///< held-out, before the first step
  std::string prompt, sample;
};

}  // namespace transformer
