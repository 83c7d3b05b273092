#include <doctest/doctest.h>

#include <string>

#include <tessera/checkpoint/checksum.hpp>

namespace tessera::checkpoint {
namespace {

TEST_CASE("checksums are those of XXH3, in 16 hexadecimal digits") {
  CHECK(hex(0) == "0000000000000000");
  CHECK(hex(0x0123456789abcdefu) == "0123456789abcdef");
  CHECK(hex(checksum(std::string_view(""))) == "2d06800538d394c2");  // the value that xxhash's own tests have
}

TEST_CASE("the checksums of blocks do not depend on how the bytes come in") {
  std::string text(1000, ' ');
  for (std::size_t i = 0; i < text.size(); ++i) text[i] = static_cast<char>(i * 7);
  const auto bytes = std::as_bytes(std::span(text));
  std::string expected;
  for (std::size_t begin = 0; begin < text.size(); begin += 64)
    expected += hex(checksum(bytes.subspan(begin, std::min<std::size_t>(64, text.size() - begin))));
  for (const std::size_t step : {1u, 63u, 64u, 65u, 999u, 1000u}) {
    BlockChecksums sums(64);
    for (std::size_t begin = 0; begin < text.size(); begin += step)
      sums.add(bytes.subspan(begin, std::min(step, text.size() - begin)));
    CHECK(sums.text() == expected);
  }
  CHECK(BlockChecksums(64).text().empty());
}

TEST_CASE("every changed bit of a text with a checksum is found, and every text that is cut off") {
  const std::string text = with_checksum("{\"a\": 1}");
  CHECK_NOTHROW(check_text("f", text));
  for (std::size_t i = 0; i < text.size(); ++i) {
    for (int bit = 0; bit < 8; ++bit) {
      std::string changed = text;
      changed[i] = static_cast<char>(changed[i] ^ 1 << bit);
      CHECK_THROWS_WITH_AS(check_text("f", changed), "f: is damaged: its checksum is not that of its text",
                           CheckpointError);
    }
    CHECK_THROWS_AS(check_text("f", std::string_view(text).substr(0, i)), CheckpointError);
  }
}

}  // namespace
}  // namespace tessera::checkpoint
