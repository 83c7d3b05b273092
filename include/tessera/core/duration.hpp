// A length of time, without <chrono>: in C++20 that header takes as long to compile as a third of this library.
#pragma once

#include <compare>
#include <cstdint>
#include <limits>

#include <tessera/core/config.hpp>

namespace tessera {

/// Made from any std::chrono::duration, or by its own name: Options{.timeout = Duration::seconds(30)}. What is longer
/// than 292 years counts as that.
class Duration {
 public:
  constexpr Duration() = default;

  /// From std::chrono, as the caller includes it.
  template <class Chrono>
  requires requires(Chrono time) { time.count() + Chrono::period::num + Chrono::period::den; }
  constexpr Duration(Chrono time)
      : Duration(static_cast<double>(time.count()) * Chrono::period::num / Chrono::period::den, 1) {}

  static constexpr Duration nanoseconds(std::int64_t count) { return Duration(count); }
  static constexpr Duration milliseconds(double count) { return Duration(count, 1e-3); }
  static constexpr Duration seconds(double count) { return Duration(count, 1); }

  constexpr std::int64_t nanoseconds() const { return nanoseconds_; }
  constexpr double seconds() const { return static_cast<double>(nanoseconds_) * 1e-9; }

  friend constexpr auto operator<=>(Duration, Duration) = default;

 private:
  constexpr explicit Duration(std::int64_t nanoseconds) : nanoseconds_(nanoseconds) {}
  constexpr Duration(double count, double unit) : nanoseconds_(clamped(count * unit * 1e9)) {}

  static constexpr std::int64_t clamped(double nanoseconds) {
    constexpr double most = 9.2e18;
    if (nanoseconds >= most) return std::numeric_limits<std::int64_t>::max();
    if (nanoseconds <= -most) return std::numeric_limits<std::int64_t>::min();
    return static_cast<std::int64_t>(nanoseconds);
  }

  std::int64_t nanoseconds_ = 0;
};

}  // namespace tessera
