#include <doctest/doctest.h>

#include <cstdint>
#include <limits>
#include <string>
#include <string_view>

#include <tessera/core/message.hpp>

using namespace tessera;

TEST_CASE("a message is the concatenation of its words and numbers") {
  const std::string unit = "block.3";
  CHECK(message({"ready('", unit, "') of rank ", 2, std::string_view(" twice")}) == "ready('block.3') of rank 2 twice");
  CHECK(message({}).empty());
}

TEST_CASE("integers of any width are written in full") {
  CHECK(message({std::numeric_limits<std::int64_t>::min()}) == "-9223372036854775808");
  CHECK(message({std::numeric_limits<std::uint64_t>::max()}) == "18446744073709551615");
  CHECK(message({0.5, " ", 1e-7}) == "0.5 1e-07");
}
