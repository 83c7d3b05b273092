// What a run leaves behind, as JSON.
#pragma once

#include <unistd.h>

#include <cstdio>
#include <filesystem>
#include <fstream>
#include <stdexcept>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include <tessera/core/digest.hpp>

#include "common/options.hpp"

namespace example {

struct Result {
  std::int64_t parameters = 0;
  std::vector<double> losses;  ///< a step, the mean over all micro-batches
  double final_loss = 0;
  double accuracy = 0;
  std::string parameters_fingerprint;
  std::vector<std::int64_t> bytes_planned, bytes_counted, elements_sent_per_step;  ///< a rank each
  std::int64_t skipped_steps = 0;
  double seconds_per_step = 0;
};

/// 16 hexadecimal digits.
inline std::string hexadecimal(std::uint64_t value) {
  char text[17];
  std::snprintf(text, sizeof text, "%016llx", static_cast<unsigned long long>(value));
  return text;
}

/// What a person wants to know of it.
inline void print(const Result& result) {
  std::printf("loss %.4f, accuracy %.2f%% on images that it has not seen, %lld steps skipped\n", result.final_loss,
              100 * result.accuracy, static_cast<long long>(result.skipped_steps));
  std::printf("rank  bytes planned  bytes counted  elements sent a step\n");
  for (std::size_t r = 0; r < result.bytes_planned.size(); ++r)
    std::printf("%4zu  %13lld  %13lld  %20lld\n", r, static_cast<long long>(result.bytes_planned[r]),
                static_cast<long long>(result.bytes_counted[r]),
                static_cast<long long>(result.elements_sent_per_step[r]));
}

/// Written beside the file and renamed, so that a report is whole or not there. Throws std::runtime_error.
inline void write_report(const std::string& example, const Options& options, const Result& result) {
  if (options.report.empty()) return;
  const nlohmann::ordered_json json{{"example", example},
                                    {"ranks", options.ranks},
                                    {"stage", options.stage},
                                    {"precision", options.precision},
                                    {"optimizer", options.optimizer},
                                    {"parameters", result.parameters},
                                    {"steps", result.losses.size()},
                                    {"losses", result.losses},
                                    {"final_loss", result.final_loss},
                                    {"accuracy", result.accuracy},
                                    {"parameters_fingerprint", result.parameters_fingerprint},
                                    {"bytes_planned", result.bytes_planned},
                                    {"bytes_counted", result.bytes_counted},
                                    {"elements_sent_per_step", result.elements_sent_per_step},
                                    {"skipped_steps", result.skipped_steps},
                                    {"seconds_per_step", result.seconds_per_step}};
  const std::filesystem::path target = std::filesystem::weakly_canonical(options.report);  // what a link leads to
  const std::filesystem::path temporary = target.string() + "." + std::to_string(getpid());
  std::ofstream file(temporary);
  file << json.dump(2) << '\n';
  file.close();
  if (!file) throw std::runtime_error("cannot write the report to " + temporary.string());
  std::filesystem::rename(temporary, target);
}

}  // namespace example
