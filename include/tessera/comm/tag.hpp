// The name of a collective in messages and timelines.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

#include <tessera/core/math.hpp>
#include <tessera/core/message.hpp>

namespace tessera {

/// The names of the first and the last unit that a collective moves. Copied, because a message may name them after
/// their optimizer is destroyed. A long name loses its beginning.
class UnitNames {
 public:
  constexpr UnitNames() = default;
  constexpr UnitNames(std::string_view first, std::string_view last) {
    copy(first, first_);
    if (last != first) copy(last, last_);
  }

  /// "unit 'body'", "units 'body' to 'head'"; empty if there are no units.
  std::string text() const {
    if (first_[0] == 0) return {};
    if (last_[0] == 0) return message({"unit '", first_, "'"});
    return message({"units '", first_, "' to '", last_, "'"});
  }

 private:
  static constexpr std::size_t room = 32;

  static constexpr void copy(std::string_view from, char (&to)[room]) {
    const std::string_view cut = "...";
    const bool fits = from.size() < room;
    std::size_t n = 0;
    if (!fits)
      for (const char c : cut) to[n++] = c;
    for (const char c : fits ? from : from.substr(from.size() - (room - 1 - cut.size()))) to[n++] = c;
  }

  char first_[room] = {};
  char last_[room] = {};
};

/// The name of one collective, {"gradients of bucket", 4, 17}: used in messages, and the same on all ranks. `what` is a
/// literal. `units`: the bucket's units, if any; not compared, because ranks compared their layouts before.
struct Tag {
  const char* what = "";
  index_t index = 0;
  index_t pass = 0;
  UnitNames units{};

  /// "gradients of bucket 4, unit 'body', pass 17"
  std::string text() const {
    const std::string named = units.text();
    return message({what, " ", index, named.empty() ? "" : ", ", named, ", pass ", pass});
  }
};

}  // namespace tessera
