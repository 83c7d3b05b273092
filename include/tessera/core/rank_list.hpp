// Lists ranks in a message.
#pragma once

#include <cstddef>
#include <string>

#include <tessera/core/list.hpp>
#include <tessera/core/message.hpp>

namespace tessera::core {

/// "rank 1", "ranks 1, 2 and 5". If there are more than `most`, only the first: "ranks 0, 1, 2 and 5 others". Empty if
/// there are none.
inline std::string text_of_ranks(const List<int>& ranks, std::size_t most = ~std::size_t{0}) {
  const std::size_t count = ranks.size();
  if (count == 0) return {};
  const std::size_t named = count < most ? count : most;
  std::string text = count == 1 ? "rank " : "ranks ";
  for (std::size_t i = 0; i < named; ++i)
    text += message({i == 0 ? "" : i + 1 == count ? " and " : ", ", ranks[i]});
  if (count > named) text += message({" and ", count - named, count - named == 1 ? " other" : " others"});
  return text;
}

}  // namespace tessera::core
