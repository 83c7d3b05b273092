#include "common/command_line.hpp"

#include <cerrno>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <system_error>
#include <utility>

#include <CLI/CLI.hpp>

namespace example {

namespace {

int say(const std::string& program, const std::string& why, int status) {
  std::fprintf(stderr, "%s: %s\n", program.c_str(), why.substr(0, why.find('\n')).c_str());
  return status;
}

}  // namespace

int wrong(const std::string& program, const std::string& why) { return say(program, why, 2); }
int failed(const std::string& program, const std::string& why) { return say(program, why, 1); }

int flushed(const std::string& program, int status) {
  errno = 0;
  if (std::fflush(stdout) == 0 && !std::ferror(stdout)) return status;
  return failed(program, std::string("cannot write to standard output") + (errno ? ": " : "") +
                             (errno ? std::strerror(errno) : ""));
}

void begin_files(const Options& options) {
  std::error_code ignored;
  for (const std::string& path : {options.report, options.timeline})
    if (std::filesystem::is_symlink(path, ignored))
      std::filesystem::resize_file(path, 0, ignored);  // a symbolic link and its target path stay
    else
      std::filesystem::remove(path, ignored);
}

namespace {

// The error for a file of an option, found before training: empty if the file can be written.
std::string unwritable(const std::string& option, const std::string& path) {
  const std::filesystem::path folder = std::filesystem::absolute(path).parent_path();
  if (!std::filesystem::is_directory(folder)) return option + ": there is no folder " + folder.string();
  const bool was_there = std::filesystem::exists(path);
  if (was_there && !std::filesystem::is_regular_file(path)) return option + ": " + path + " is not a plain file";
  if (!std::ofstream(path, std::ios::app)) return option + ": cannot write " + path;
  if (!was_there) std::filesystem::remove(path);
  return {};
}

}  // namespace

std::optional<int> parse(Options& options, const Program& of, int argc, char** argv) {
  const std::string& program = of.name;
  CLI::App app{of.about, program};
  app.add_option("--ranks", options.ranks, "ranks, each a thread")->check(CLI::Range(1, 64))->capture_default_str();
  app.add_option("--stage", options.stage, "ZeRO stage")->check(CLI::Range(0, 3))->capture_default_str();
  app.add_option("--precision", options.precision)->check(CLI::IsMember(of.precisions))->capture_default_str();
  app.add_option("--optimizer", options.optimizer)->check(CLI::IsMember(&of.learning_rates))->capture_default_str();
  auto* epochs = app.add_option("--epochs", options.epochs, "passes over the data")
                     ->check(CLI::Range(1, 1000000))
                     ->capture_default_str();
  app.add_option("--steps", options.steps, "steps from the run's beginning, instead of --epochs")
      ->check(CLI::Range(std::int64_t{1}, std::int64_t{1} << 40))
      ->excludes(epochs);
  app.add_option("--batch", options.batch, "samples a step, over all ranks and passes")
      ->check(CLI::Range(1, 1 << 30))
      ->capture_default_str();
  app.add_option("--micro-batches", options.micro_batches,
                 "of each rank in a step; more where so many do not share the batch evenly")
      ->check(CLI::Range(1, 1 << 20))
      ->capture_default_str();
  std::string rates;
  for (const auto& [optimizer, rate] : of.learning_rates)
    rates += (rates.empty() ? "" : ", ") + optimizer + " " + CLI::detail::to_string(rate);
  const auto* lr = app.add_option("--lr", options.lr, "learning rate; default: " + rates)->check(CLI::Range(0.0, 1e30));
  app.add_option("--seed", options.seed, "of weights and order")
      ->check(CLI::Range(std::int64_t{0}, std::int64_t{1} << 62))
      ->capture_default_str();
  app.add_option("--data", options.data, of.data + "; default: what is shipped");
  app.add_option("--report", options.report, "file for a report in JSON");
  if (of.timeline)
    app.add_option("--timeline", options.timeline, "file for what ran when in the last steps, for ui.perfetto.dev");
  if (of.add_options) of.add_options(app);
  try {
    app.parse(argc, argv);
    if (of.settle) of.settle();
  } catch (const CLI::CallForHelp&) {
    std::fputs(app.help().c_str(), stdout);
    return flushed(program, 0);
  } catch (const CLI::ParseError& error) {
    return wrong(program, error.what());
  } catch (const WrongOption& error) {
    return wrong(program, error.what());
  }
  if (lr->count() == 0) options.lr = of.learning_rates.at(options.optimizer);
  if (!std::isfinite(options.lr)) return wrong(program, "--lr must be a number from 0");
  constexpr int most = 4;  // times the requested micro-batches: more is probably a mistake
  const int asked = options.ranks * options.micro_batches, fewest = options.step_micro_batches();
  if (fewest > most * asked)
    return wrong(program, "--batch " + std::to_string(options.batch) + " does not divide into fewer than " +
                              std::to_string(fewest) + " equal micro-batches, where " + std::to_string(asked) +
                              " were asked for: choose another");
  for (const auto& [option, path] : {std::pair("--report", options.report), {"--timeline", options.timeline}})
    if (const std::string why = path.empty() ? "" : unwritable(option, path); !why.empty()) return wrong(program, why);
  return std::nullopt;
}

}  // namespace example
