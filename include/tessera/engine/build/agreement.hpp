// What ranks exchange during construction, and what must be the same on all of them. Design section 4, point 8. The
// comparison in every step is in engine/step/step_decision.hpp.
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

/// What one rank was constructed from, in a record of fixed size, so that ranks that differ can exchange it.
struct Blueprint {
  struct Part {
    std::array<char, 32> what{};
    std::array<char, 160> text{};
    std::uint64_t digest = 0;
  };

  /// The addresses of a buffer of the caller. process: see process_number().
  struct Memory {
    std::uint64_t process = 0;
    std::uint64_t begin = 0;
    std::uint64_t end = 0;

    bool meets(const Memory& other) const { return process == other.process && begin < other.end && other.begin < end; }
  };

  std::array<Part, 8> parts{};
  std::uint64_t settings = 0;       ///< digest of options and hyperparameters (engine/step/settings.hpp)
  std::array<Memory, 2> memory{};   ///< the buffers of parameters and gradients
  std::array<char, 512> problem{};  ///< why this rank cannot be constructed; empty if it can

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

/// Throws the same error on every rank: AgreementError, which names the first rank that differs from rank 0 and the
/// difference, or BufferError if two ranks got the same memory.
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
