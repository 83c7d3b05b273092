// The clock that waits and timelines go by, and what std::chrono lacks: times that do not overflow.
#pragma once

#include <chrono>

namespace tessera::core {

/// Nobody sets it.
using Clock = std::chrono::steady_clock;

/// That much later than `from`; the end of time if the clock does not reach that far. `time` is not negative.
constexpr Clock::time_point later(Clock::time_point from, std::chrono::nanoseconds time) noexcept {
  constexpr Clock::time_point never = Clock::time_point::max();
  return from > Clock::time_point{} && time > never - from ? never : from + time;
}

/// When a wait that begins now has taken that long.
inline Clock::time_point deadline_after(std::chrono::nanoseconds timeout) noexcept {
  return later(Clock::now(), timeout);
}

constexpr double seconds_of(std::chrono::nanoseconds time) noexcept {
  return std::chrono::duration<double>(time).count();
}

/// What is longer than 292 years counts as that.
constexpr std::chrono::nanoseconds nanoseconds_of(double seconds) noexcept {
  constexpr double most = 9.2e9;  // seconds
  if (seconds >= most) return std::chrono::nanoseconds::max();
  return std::chrono::nanoseconds(static_cast<std::chrono::nanoseconds::rep>(seconds * 1e9));
}

}  // namespace tessera::core
