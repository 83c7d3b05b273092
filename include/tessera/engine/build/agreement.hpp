// What ranks tell each other when they are built, and what must be alike. (In every step: engine/step/step_decision.hpp.)
// Design section 4, point 8.
#pragma once

#include <array>
#include <cstdint>
#include <cstring>
#include <string_view>

#include <tessera/core/error.hpp>
#include <tessera/core/list.hpp>
#include <tessera/core/math.hpp>
#include <tessera/core/message.hpp>

namespace tessera::engine {

/// What one rank was built from, of a size that does not depend on what it was built from.
struct Blueprint {
  struct Part {
    std::array<char, 32> what{};
    std::array<char, 160> text{};
    std::uint64_t digest = 0;
  };

  /// A buffer of the caller's, by address; a process is told apart by a number that it drew.
  struct Memory {
    std::uint64_t process = 0;
    std::uint64_t begin = 0;
    std::uint64_t end = 0;

    bool meets(const Memory& other) const { return process == other.process && begin < other.end && other.begin < end; }
  };

  std::array<Part, 8> parts{};
  std::uint64_t settings = 0;       ///< digest of options and hyperparameters (engine/step/settings.hpp)
  std::array<Memory, 2> memory{};   ///< parameters and gradients
  std::array<char, 512> problem{};  ///< why this rank cannot be built; empty if it can

  void set(std::size_t part, std::string_view what, std::string_view text, std::uint64_t digest) {
    copy(what, parts[part].what);
    copy(text, parts[part].text);
    parts[part].digest = digest;
  }
  void refuse(std::string_view why) { copy(why, problem); }

 private:
  template <std::size_t n>
  static void copy(std::string_view from, std::array<char, n>& to) {
    to.fill(0);
    std::memcpy(to.data(), from.data(), min(from.size(), n - 1));
  }
};

/// Whether all ranks have the same options and hyperparameters.
inline bool settings_agree(const core::List<Blueprint>& ranks) {
  for (const Blueprint& blueprint : ranks)
    if (blueprint.settings != ranks[0].settings) return false;
  return true;
}

/// Throws, on every rank alike, AgreementError that names the first two ranks whose blueprints differ and how, or
/// BufferError where ranks were handed the same memory.
inline void compare(const core::List<Blueprint>& ranks) {
  for (std::size_t r = 1; r < ranks.size(); ++r)
    for (std::size_t p = 0; p < ranks[r].parts.size(); ++p) {
      const Blueprint::Part& first = ranks[0].parts[p];
      const Blueprint::Part& other = ranks[r].parts[p];
      if (first.digest == other.digest && first.text == other.text) continue;
      throw AgreementError(
          message({"ranks differ in ", first.what.data(), ": rank 0 has ", first.text.data(), ", rank ", r, " has ",
                   other.text.data(), ": build the optimizer alike on every rank"}));
    }
  for (std::size_t r = 1; r < ranks.size(); ++r)
    for (std::size_t other = 0; other < r; ++other)
      for (const Blueprint::Memory& mine : ranks[r].memory)
        for (const Blueprint::Memory& theirs : ranks[other].memory)
          if (mine.meets(theirs))
            throw BufferError(message({"ranks ", other, " and ", r,
                                       " were handed buffers that overlap: each rank needs "
                                       "parameters and gradients of its own"}));
}

}  // namespace tessera::engine
