#include <doctest/doctest.h>

#include <bit>
#include <cmath>
#include <cstdint>
#include <initializer_list>
#include <limits>

#include <tessera/core/float16.hpp>

namespace tessera {
namespace {

float16 of_bits(std::uint32_t bits) {
  float16 half;
  half.bits = static_cast<std::uint16_t>(bits);
  return half;
}

// The value by the definition of the format, computed in double.
double value_of(std::uint32_t bits) {
  const int exponent = static_cast<int>(bits >> 10 & 31);
  const double fraction = bits & 1023;
  const double size = exponent == 0 ? std::ldexp(fraction, -24) : std::ldexp(1024 + fraction, exponent - 25);
  return bits & 0x8000 ? -size : size;
}

TEST_CASE(
    "each of the 65536 values converts to the float that the format defines and back, every NaN to the same NaN") {
  for (std::uint32_t bits = 0; bits < 65536; ++bits) {
    const float wide = of_bits(bits);
    if ((bits & 0x7c00) != 0x7c00) {
      REQUIRE(static_cast<double>(wide) == value_of(bits));
      REQUIRE(std::signbit(wide) == (bits >= 0x8000));
    } else if ((bits & 0x3ff) == 0) {
      REQUIRE(wide == (bits & 0x8000 ? -1 : 1) * std::numeric_limits<float>::infinity());
    } else {
      REQUIRE(std::isnan(wide));
      REQUIRE(float16(wide).bits == 0xffff);
      continue;
    }
    REQUIRE(float16(wide).bits == bits);
  }
}

TEST_CASE("a float between two float16 values rounds to the nearest, and ties to even") {
  for (std::uint32_t bits = 0; bits < 0x7c00; ++bits) {
    const double low = value_of(bits);
    const double high = bits == 0x7bff ? 65536 : value_of(bits + 1);
    const auto middle = static_cast<float>((low + high) / 2);
    REQUIRE(static_cast<double>(middle) == (low + high) / 2);
    const std::uint32_t even = bits & 1 ? bits + 1 : bits;
    for (const float sign : {1.0f, -1.0f}) {
      const std::uint32_t mark = sign < 0 ? 0x8000 : 0;
      REQUIRE(float16(sign * middle).bits == (even | mark));
      REQUIRE(float16(sign * std::nextafter(middle, 0.0f)).bits == (bits | mark));
      REQUIRE(float16(sign * std::nextafter(middle, 1e9f)).bits == ((bits + 1) | mark));
    }
  }
}

TEST_CASE("too large values become infinite and too small values become zero with the same sign") {
  CHECK(float16(65520.0f).bits == 0x7c00);
  CHECK(float16(std::numeric_limits<float>::max()).bits == 0x7c00);
  CHECK(float16(-std::numeric_limits<float>::infinity()).bits == 0xfc00);
  CHECK(float16(-1e-20f).bits == 0x8000);
  CHECK(float16(std::numeric_limits<float>::denorm_min()).bits == 0);
}

static_assert(float16(1.5f).bits == 0x3e00 && static_cast<float>(float16(0.1f)) == 0.0999755859375f);

}  // namespace
}  // namespace tessera
