#include "common/report.hpp"

#include <unistd.h>

#include <cerrno>
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <sstream>
#include <stdexcept>
#include <system_error>

#include <nlohmann/json.hpp>

#include <tessera/timeline/trace_events.hpp>

#include "common/command_line.hpp"

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

namespace {

// Includes the held-out loss: only a run that ended well has finite numbers everywhere.
std::string divergence(const Result& result) {
  if (!result.diverged.empty()) return result.diverged;
  return std::isfinite(result.final_loss) ? "" : "after the last step: the loss is not finite";
}

void write_whole(const char* what, const std::string& path, const std::string& text) {
  const std::filesystem::path target = std::filesystem::weakly_canonical(path);  // the target of a symbolic link
  const std::filesystem::path temporary = target.string() + "." + std::to_string(getpid());
  std::FILE* const file = std::fopen(temporary.c_str(), "w");
  bool good = file && std::fwrite(text.data(), 1, text.size(), file) == text.size();
  int cause = errno;
  if (file && std::fclose(file) != 0 && good) {
    good = false;
    cause = errno;
  }
  std::error_code error(cause, std::generic_category());
  if (good) std::filesystem::rename(temporary, target, error);
  if (good && !error) return;
  std::error_code ignored;
  if (file) std::filesystem::remove(temporary, ignored);
  throw std::runtime_error(std::string("cannot write the ") + what + " to " + path + ": " + error.message());
}

}  // namespace

void write_report(const std::string& example, const Options& options, const Result& result) {
  if (options.report.empty()) return;
  const std::string diverged = divergence(result);
  const nlohmann::ordered_json json{
      {"example", example},
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
      {"diverged", diverged.empty() ? nlohmann::ordered_json() : nlohmann::ordered_json(diverged)},
      {"seconds_per_step", result.seconds_per_step}};
  write_whole("report", options.report, json.dump(2) + '\n');
}

void write_timeline(const tessera::Timeline& timeline, const std::string& path) {
  std::ostringstream text;
  tessera::write_trace_events(timeline, text);
  write_whole("timeline", path, text.str());
}

int end(const std::string& example, const Options& options, const Result& result) {
  write_report(example, options, result);
  const std::string diverged = divergence(result);
  if (const int status = flushed(example, 0); status != 0 || diverged.empty()) return status;
  return failed(example, "the training diverged, " + diverged);
}

}  // namespace example
