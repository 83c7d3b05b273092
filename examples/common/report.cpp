#include "common/report.hpp"

#include <unistd.h>

#include <cstdio>
#include <filesystem>
#include <fstream>
#include <stdexcept>

#include <nlohmann/json.hpp>

namespace example {

void print_ranks(const Result& result) {
  std::printf("rank  bytes planned  bytes counted  elements sent a step\n");
  for (std::size_t r = 0; r < result.bytes_planned.size(); ++r)
    std::printf("%4zu  %13lld  %13lld  %20lld\n", r, static_cast<long long>(result.bytes_planned[r]),
                static_cast<long long>(result.bytes_counted[r]),
                static_cast<long long>(result.elements_sent_per_step[r]));
}

void print(const Result& result) {
  std::printf("loss %.4f, accuracy %.2f%% on images that it has not seen, %lld steps skipped\n", result.final_loss,
              100 * result.accuracy, static_cast<long long>(result.skipped_steps));
  print_ranks(result);
}

void write_report(const std::string& example, const Options& options, const Result& result) {
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
