#include <doctest/doctest.h>

#include <chrono>

#include <tessera/core/clock.hpp>

namespace tessera {
namespace {

using std::chrono::nanoseconds;

TEST_CASE("a deadline is that much later than now") {
  const Clock::time_point before = Clock::now();
  const Clock::time_point deadline = deadline_after(std::chrono::milliseconds(20));
  CHECK(deadline >= before + std::chrono::milliseconds(20));
  CHECK(deadline <= Clock::now() + std::chrono::milliseconds(20));
  const Clock::time_point at_once = deadline_after(nanoseconds{});
  CHECK(at_once <= Clock::now());
}

TEST_CASE("a timeout that no clock reaches ends never") {
  CHECK(deadline_after(nanoseconds::max()) == Clock::time_point::max());
  constexpr Clock::time_point five{nanoseconds(5)};
  static_assert(later(five, nanoseconds(2)) == Clock::time_point(nanoseconds(7)));
  static_assert(later(five, nanoseconds::max()) == Clock::time_point::max());
  static_assert(later(five, nanoseconds::max() - nanoseconds(5)) == Clock::time_point::max());
  static_assert(later(five, nanoseconds::max() - nanoseconds(6)) < Clock::time_point::max());
  static_assert(later(Clock::time_point{}, nanoseconds::max()) == Clock::time_point::max());
}

TEST_CASE("seconds become nanoseconds and back, and too many the longest time") {
  CHECK(nanoseconds_of(1.5) == std::chrono::milliseconds(1500));
  CHECK(seconds_of(std::chrono::milliseconds(1500)) == doctest::Approx(1.5));
  CHECK(nanoseconds_of(1e300) == nanoseconds::max());
}

}  // namespace
}  // namespace tessera
