#include <doctest/doctest.h>

#include <chrono>
#include <cstdint>
#include <limits>

#include <tessera/core/duration.hpp>

using namespace tessera;

static_assert(Duration(std::chrono::milliseconds(20)) == Duration::milliseconds(20));
static_assert(Duration(std::chrono::minutes(10)) == Duration::seconds(600));
static_assert(Duration(std::chrono::duration<double>(0.25)) == Duration::milliseconds(250));
static_assert(Duration::nanoseconds(3) > Duration{});

TEST_CASE("a duration is made from any of std::chrono, and read back in nanoseconds or seconds") {
  CHECK(Duration(std::chrono::hours(1)).nanoseconds() == std::int64_t{3'600'000'000'000});
  CHECK(Duration::milliseconds(1500).seconds() == doctest::Approx(1.5));
}

TEST_CASE("what is too long counts as the longest") {
  CHECK(Duration(std::chrono::hours(24 * 365 * 1000)).nanoseconds() == std::numeric_limits<std::int64_t>::max());
  CHECK(Duration::seconds(-1e300).nanoseconds() == std::numeric_limits<std::int64_t>::min());
}
