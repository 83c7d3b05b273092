// The progress of a long run: a bar on a terminal, otherwise plain lines at intervals.
#pragma once

#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <string>

namespace example {

class Progress {
 public:
  /// rate_of: what is counted per second, such as "samples"; each step has `per_step` of them.
  Progress(std::int64_t steps, double per_step, const char* rate_of)
      : steps_(steps), per_step_(per_step), rate_of_(rate_of), terminal_(isatty(STDOUT_FILENO) != 0) {}

  void show(std::int64_t done, double loss) {
    const auto now = Clock::now();
    const double since_shown = std::chrono::duration<double>(now - shown_).count();
    if (done != steps_ && since_shown < (terminal_ ? 0.1 : 2.0)) return;
    shown_ = now;
    const double seconds = std::max(std::chrono::duration<double>(now - began_).count(), 1e-9);
    const double rate = static_cast<double>(done) / seconds;
    char text[160];
    std::snprintf(text, sizeof text, "step %lld of %lld  loss %.4f  %.0f %s/s  %.0f s left",
                  static_cast<long long>(done), static_cast<long long>(steps_), loss, rate * per_step_, rate_of_,
                  static_cast<double>(steps_ - done) / rate);
    if (terminal_) {
      constexpr int width = 24;
      const int filled = static_cast<int>(width * done / steps_);
      std::printf("\r[%s%s] %s\033[K%s", std::string(filled, '#').c_str(), std::string(width - filled, '.').c_str(),
                  text, done == steps_ ? "\n" : "");
    } else {
      std::printf("%s\n", text);
    }
    std::fflush(stdout);
  }

 private:
  using Clock = std::chrono::steady_clock;

  std::int64_t steps_;
  double per_step_;
  const char* rate_of_;
  bool terminal_;
  Clock::time_point began_ = Clock::now(), shown_{};
};

}  // namespace example
