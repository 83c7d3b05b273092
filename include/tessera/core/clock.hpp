// The clock of waits and timelines, and time arithmetic that does not overflow, which std::chrono lacks.
#pragma once

#include <chrono>

namespace tessera::core {

/// Steady: the system's administrator cannot set it.
using Clock = std::chrono::steady_clock;

/// `from` plus `time`, or the largest time point if the sum overflows. time: not negative.
constexpr Clock::time_point later(Clock::time_point from, std::chrono::nanoseconds time) noexcept {
  constexpr Clock::time_point never = Clock::time_point::max();
  return from > Clock::time_point{} && time > never - from ? never : from + time;
}

/// The deadline of a wait that begins now.
inline Clock::time_point deadline_after(std::chrono::nanoseconds timeout) noexcept {
  return later(Clock::now(), timeout);
}

constexpr double seconds_of(std::chrono::nanoseconds time) noexcept {
  return std::chrono::duration<double>(time).count();
}

/// Values above 292 years become the largest duration.
constexpr std::chrono::nanoseconds nanoseconds_of(double seconds) noexcept {
  constexpr double most = 9.2e9;  // seconds
  if (seconds >= most) return std::chrono::nanoseconds::max();
  return std::chrono::nanoseconds(static_cast<std::chrono::nanoseconds::rep>(seconds * 1e9));
}

}  // namespace tessera::core
