// The common parts of the programs that train the transformer, on the host and on devices.
#pragma once

#include <cctype>
#include <cstdio>
#include <exception>
#include <limits>
#include <optional>
#include <string>

#include <CLI/CLI.hpp>

#include "common/command_line.hpp"
#include "common/report.hpp"
#include "transformer/options.hpp"
#include "transformer/outcome.hpp"
#include "transformer/text.hpp"

namespace transformer {

inline const char* const data_option = "a text, any file; its last 5% are held out";

inline void add_options(CLI::App& app, Options& options) {
  const CLI::Range size(1, 1 << 16);
  app.add_option("--layers", options.shape.layers, "blocks")->check(size)->capture_default_str();
  app.add_option("--width", options.shape.width, "of the residual stream")->check(size)->capture_default_str();
  app.add_option("--heads", options.shape.heads, "of attention, in a block")->check(size)->capture_default_str();
  app.add_option("--context", options.shape.context, "bytes of a sequence")->check(size)->capture_default_str();
  app.add_option("--bucket-bytes", options.bucket_bytes, "of gradients that travel together")
      ->check(CLI::Range(std::int64_t{1}, std::int64_t{1} << 40))
      ->capture_default_str();
  app.add_option("--prefetch", options.prefetch, "buckets gathered ahead at stage 3; 0: none overlaps")
      ->check(CLI::Range(0, 1 << 16))
      ->capture_default_str();
  app.add_option("--limit-memory", options.limit_memory,
                 "bytes that a rank may hold, also as 12M; a stage that needs more is refused")
      ->transform(CLI::AsSizeValue(false));
}

// Throws example::WrongOption.
inline void check(const Options& options, const Text& text) {
  const auto& [layers, width, heads, context] = options.shape;
  if (width % heads != 0)
    throw example::WrongOption("--width " + std::to_string(width) + " does not divide by " + std::to_string(heads) +
                               " heads");
  const std::int64_t windows = training_windows(text, context);
  if (held_out_windows(text, context) < 1)
    throw example::WrongOption("the text of " + std::to_string(text.bytes.size()) +
                               " bytes is too short: 5% of it must hold more than --context " +
                               std::to_string(context));
  if (windows > std::numeric_limits<int>::max())
    throw example::WrongOption("the text of " + std::to_string(text.bytes.size()) +
                               " bytes is too long: it has more than 2^31 windows of --context " +
                               std::to_string(context));
  if (options.batch > windows)
    throw example::WrongOption("--batch " + std::to_string(options.batch) + " is more than the " +
                               std::to_string(windows) + " sequences that the text has");
}

// Replaces characters other than printable ASCII by dots, since the text may be any file.
inline std::string printable(std::string text) {
  for (char& c : text)
    if (c != '\n' && !std::isprint(static_cast<unsigned char>(c))) c = '.';
  return text;
}

inline void print(const Outcome& outcome) {
  const example::Result& result = outcome.result;
  example::print_ranks(result);
  std::printf(
      "loss on text that it has not seen, nats a byte: %.4f before, %.4f after; %.1f%% of bytes guessed; "
      "%lld steps skipped\n",
      outcome.loss_before, result.final_loss, 100 * result.accuracy, static_cast<long long>(result.skipped_steps));
  std::printf("\"%s|%s\"\n", printable(outcome.prompt).c_str(), printable(outcome.sample).c_str());
}

/// Reads options and text, trains, and prints the outcome. Returns main's status. train(text) returns an outcome in the
/// process that prints.
template <class Train>
int run(Options& options, const example::Program& program, int argc, char** argv, Train train) {
  if (const auto status = example::parse(options, program, argc, argv)) return *status;
  try {
    const Text text =
        read_text(options.data.empty() ? TESSERA_SOURCE_DIR "/examples/data/new-testament.txt" : options.data);
    check(options, text);
    example::begin_files(options);
    const std::optional<Outcome> outcome = train(text);
    if (!outcome) return 0;
    print(*outcome);
    return example::end(program.name, options, outcome->result);
  } catch (const example::WrongOption& error) {
    return example::wrong(program.name, error.what());
  } catch (const std::exception& error) {
    return example::failed(program.name, error.what());
  }
}

}  // namespace transformer
