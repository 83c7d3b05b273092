// A text as bytes, split by position into a training part and a held-out part.
#pragma once

#include <cstdint>
#include <fstream>
#include <span>
#include <sstream>
#include <string>
#include <vector>

#include "common/options.hpp"
#include "common/random.hpp"

namespace transformer {

struct Text {
  std::vector<std::uint8_t> bytes;

  std::span<const std::uint8_t> training() const { return std::span(bytes).first(bytes.size() - held_out_bytes()); }
  std::span<const std::uint8_t> held_out() const { return std::span(bytes).last(held_out_bytes()); }

 private:
  std::size_t held_out_bytes() const { return bytes.size() / 20; }  // the last 5%
};

/// Throws example::WrongOption that names the file.
inline Text read_text(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::ostringstream all;
  if (!(all << file.rdbuf())) throw example::WrongOption("cannot read " + path + ", or it is empty");
  const std::string text = all.str();
  return {{text.begin(), text.end()}};
}

/// The number of windows per epoch, of `context` bytes and the next one each, side by side.
inline std::int64_t training_windows(const Text& text, int context) {
  return (static_cast<std::int64_t>(text.training().size()) - context) / context;
}
inline std::int64_t held_out_windows(const Text& text, int context) {
  return (static_cast<std::int64_t>(text.held_out().size()) - 1) / context;
}

/// The first bytes of an epoch's windows: side by side, with a start and an order that depend on seed and epoch.
inline std::vector<std::int64_t> windows_of_epoch(const Text& text, int context, std::uint64_t seed,
                                                  std::uint64_t epoch) {
  const auto first = static_cast<std::int64_t>(example::hash(seed, epoch) % static_cast<std::uint64_t>(context));
  std::vector<std::int64_t> starts;
  for (const int window : example::shuffled(static_cast<int>(training_windows(text, context)), seed, epoch))
    starts.push_back(first + std::int64_t{window} * context);
  return starts;
}

}  // namespace transformer
