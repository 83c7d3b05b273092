// The result of a run.
#pragma once

#include <cstdint>
#include <cstdio>
#include <string>
#include <vector>

namespace example {

struct Result {
  std::int64_t parameters = 0;
  std::vector<double> losses;  ///< per step, the mean over all micro-batches
  double final_loss = 0;
  double accuracy = 0;
  std::string parameters_fingerprint;
  std::vector<std::int64_t> bytes_planned, bytes_counted, elements_sent_per_step;  ///< one per rank
  std::int64_t skipped_steps = 0;
  std::string diverged;  ///< the first sign of divergence; empty: none
  double seconds_per_step = 0;
};

/// 16 hexadecimal digits.
inline std::string hexadecimal(std::uint64_t value) {
  char text[17];
  std::snprintf(text, sizeof text, "%016llx", static_cast<unsigned long long>(value));
  return text;
}

}  // namespace example
