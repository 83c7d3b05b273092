#include <tessera/core/bfloat16.hpp>

#include <cmath>
#include <random>

#include <doctest/doctest.h>

using tessera::bfloat16;

TEST_CASE("each of the 65536 values converts to float and back unchanged, and every NaN becomes the same NaN") {
  for (std::uint32_t bits = 0; bits < 65536; ++bits) {
    bfloat16 value;
    value.bits = static_cast<std::uint16_t>(bits);
    const float wide = value;
    if (std::isnan(wide)) {
      REQUIRE(bfloat16(wide).bits == 0xffff);
    } else {
      REQUIRE(bfloat16(wide).bits == bits);
    }
  }
}

TEST_CASE("a float rounds to the nearest bfloat16, and ties to even") {
  std::mt19937 random(4);
  for (int i = 0; i < 1000000; ++i) {
    std::uint32_t bits = random();
    if (i % 4 == 0) bits = (bits & 0xffff0000u) | 0x8000u;
    const auto value = std::bit_cast<float>(bits);
    if (std::isnan(value)) {
      REQUIRE(bfloat16(value).bits == 0xffff);
      continue;
    }
    const std::uint32_t below = bits >> 16, rest = bits & 0xffffu;
    const bool up = rest > 0x8000u || (rest == 0x8000u && (below & 1u) != 0);
    REQUIRE(bfloat16(value).bits == below + up);
  }
}
