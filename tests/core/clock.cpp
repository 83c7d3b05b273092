#include <doctest/doctest.h>

#include <chrono>

#include <tessera/core/clock.hpp>

namespace tessera {
namespace {

using std::chrono::nanoseconds;

TEST_CASE("deadline_after is the timeout later than now") {
  const core::Clock::time_point before = core::Clock::now();
  const core::Clock::time_point deadline = core::deadline_after(std::chrono::milliseconds(20));
  CHECK(deadline >= before + std::chrono::milliseconds(20));
  CHECK(deadline <= core::Clock::now() + std::chrono::milliseconds(20));
  const core::Clock::time_point at_once = core::deadline_after(nanoseconds{});
  CHECK(at_once <= core::Clock::now());
}

TEST_CASE("a timeout beyond the range of the clock never ends") {
  CHECK(core::deadline_after(nanoseconds::max()) == core::Clock::time_point::max());
  constexpr core::Clock::time_point five{nanoseconds(5)};
  static_assert(core::later(five, nanoseconds(2)) == core::Clock::time_point(nanoseconds(7)));
  static_assert(core::later(five, nanoseconds::max()) == core::Clock::time_point::max());
  static_assert(core::later(five, nanoseconds::max() - nanoseconds(5)) == core::Clock::time_point::max());
  static_assert(core::later(five, nanoseconds::max() - nanoseconds(6)) < core::Clock::time_point::max());
  static_assert(core::later(core::Clock::time_point{}, nanoseconds::max()) == core::Clock::time_point::max());
}

TEST_CASE("seconds convert to nanoseconds and back, and values out of range become the longest duration") {
  CHECK(core::nanoseconds_of(1.5) == std::chrono::milliseconds(1500));
  CHECK(core::seconds_of(std::chrono::milliseconds(1500)) == doctest::Approx(1.5));
  CHECK(core::nanoseconds_of(1e300) == nanoseconds::max());
}

}  // namespace
}  // namespace tessera
