// Compares the code on a docs page with the code that a test compiles.
#pragma once

#include <fstream>
#include <iterator>
#include <string>

namespace tessera::testing {

inline std::string read_file(const std::string& path) {
  std::ifstream file(std::string(TESSERA_SOURCE_DIR "/") + path);
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

/// Whether `page` has a code block with the lines of `source` between "// [mark]" and "// [end]".
inline bool page_shows(const std::string& page, const std::string& source, const std::string& mark) {
  const std::string code = read_file(source);
  const std::string from = "// [" + mark + "]\n";
  const auto begin = code.find(from);
  const auto end = code.find("// [end]", begin);
  if (begin == std::string::npos || end == std::string::npos) return false;
  const std::string shown = code.substr(begin + from.size(), end - begin - from.size());
  return !shown.empty() && read_file(page).find("```cpp\n" + shown + "```") != std::string::npos;
}

}  // namespace tessera::testing
