// Compares a step on a device with its kernels, each measured alone, and measures how much of the communication does
// not overlap with a compute of the same length. With one rank over NCCL, and with several that share the device over
// CudaLocal.
#include <cstdint>
#include <cstdio>
#include <exception>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

#include <CLI/CLI.hpp>

#include "samples.hpp"
#include "step_cuda.hpp"

namespace {

std::string row(int stage, int world, const StepTimes& times) {
  char text[300];
  const std::string of = std::to_string(stage) + " | " + (world == 0 ? "1, NCCL" : std::to_string(world) + ", local");
  if (!times.fits) {
    std::snprintf(text, sizeof text, "| %s | does not fit: %.0f GiB | | | | | | | | |", of.c_str(),
                  static_cast<double>(times.bytes) / (1 << 30));
    return text;
  }
  const double communication = median(times.reductions) + times.gathers_a_step * median(times.gathers);
  const double rest = median(times.clear) + median(times.norm) + median(times.update);
  const double unhidden = median(times.hidden_step) - median(times.compute) - rest;
  std::snprintf(text, sizeof text, "| %s | %s | %.2f | %.2f | %.2f | %.2f | %.3f | %.2f | %s | %.1f%% |", of.c_str(),
                with_spread(times.step, 1e3, 2).c_str(), communication * 1e3, median(times.clear) * 1e3,
                median(times.norm) * 1e3, median(times.update) * 1e3, median(times.step) / (communication + rest),
                median(times.compute) * 1e3, with_spread(times.hidden_step, 1e3, 2).c_str(),
                100 * unhidden / communication);
  return text;
}

}  // namespace

int main(int argc, char** argv) {
  StepSetting setting;
  std::vector<int> stages{0, 1, 2, 3}, worlds{0, 2, 4, 8};
  std::string markdown;
  CLI::App app{"A step of AdamW in fp32 on a CUDA device: milliseconds, medians with quartiles"};
  app.add_option("--elements", setting.elements, "of the model")
      ->check(CLI::Range(std::int64_t{1}, std::int64_t{1} << 40))
      ->capture_default_str();
  app.add_option("--units", setting.units, "of the model")->check(CLI::Range(1, 1 << 20))->capture_default_str();
  app.add_option("--bucket-bytes", setting.bucket_bytes, "Options::bucket_bytes")
      ->check(CLI::Range(std::int64_t{1}, std::int64_t{1} << 40))
      ->capture_default_str();
  app.add_option("--prefetch", setting.prefetch, "Options::prefetch")->check(CLI::NonNegativeNumber);
  app.add_option("--stage", stages, "stages")->delimiter(',')->check(CLI::Range(0, 3))->capture_default_str();
  app.add_option("--world", worlds, "ranks over CudaLocal; 0: one over NCCL")
      ->delimiter(',')
      ->check(CLI::Range(0, 64))
      ->capture_default_str();
  app.add_option("--steps", setting.steps, "samples")->check(CLI::PositiveNumber)->capture_default_str();
  app.add_option("--markdown", markdown, "also append the table to this file");
  CLI11_PARSE(app, argc, argv);
  if (setting.elements < setting.units) {
    std::fprintf(stderr, "step_cuda: --elements %lld is less than one for each of %d units\n",
                 static_cast<long long>(setting.elements), setting.units);
    return 2;
  }

  std::ostringstream table;
  const auto say = [&](const std::string& line) {
    std::puts(line.c_str());
    std::fflush(stdout);
    table << line << '\n';
  };
  try {
    bool first = true;
    for (const int world : worlds)
      for (const int stage : stages) {
        const StepTimes times = measure_step(setting, stage, world);
        if (first) {
          say("| stage | world | step ms | communication | clear | norm | update | step / sum | compute | step with "
              "compute "
              "ms | not hidden |");
          say("| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |");
        }
        first = false;
        say(row(stage, world, times));
      }
  } catch (const std::exception& error) {
    std::fprintf(stderr, "step_cuda: %s\n", error.what());
    return 2;
  }
  if (!markdown.empty()) std::ofstream(markdown, std::ios::app) << table.str();
}
