#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>

#include <tessera/engine/kernels/loss_scale.hpp>

namespace tessera::engine {
namespace {

// The sequences of DeepSpeed's tests/unit/runtime/half_precision/test_dynamic_loss_scale.py.

TEST_CASE("steps without overflow double the scale after every window") {
  LossScaler scaler({.initial = 256, .growth_interval = 2});
  double expected = 256;
  for (int step = 1; step <= 10; ++step) {
    scaler.advance(false);
    if (step % 2 == 0) expected *= 2;
    CHECK(scaler.scale() == expected);
  }
}

TEST_CASE("overflows halve the scale down to the minimum, and a scale that cannot be lowered is reported") {
  LossScaler scaler({.initial = 16, .growth_interval = 2, .hysteresis = 1});
  double expected = 16;
  for (int step = 0; step < 4; ++step) {
    scaler.advance(true);
    expected /= 2;
    CHECK(scaler.scale() == expected);
    CHECK_FALSE(scaler.exhausted());
  }
  scaler.advance(true);
  CHECK(scaler.scale() == 1);
  CHECK(scaler.exhausted());
  scaler.advance(false);
  CHECK_FALSE(scaler.exhausted());
}

TEST_CASE("eight overflows lower the scale from 2^8 to 1, and a window is counted from the last overflow") {
  LossScaler scaler({.initial = 256, .growth_interval = 2, .hysteresis = 1});
  for (int step = 0; step < 8; ++step) scaler.advance(true);
  CHECK(scaler.scale() == 1);
  scaler.advance(false);
  CHECK(scaler.scale() == 1);
  scaler.advance(false);
  CHECK(scaler.scale() == 2);
  scaler.advance(false);
  scaler.advance(true);
  CHECK(scaler.scale() == 1);
  scaler.advance(false);
  CHECK(scaler.scale() == 1);
  scaler.advance(false);
  CHECK(scaler.scale() == 2);
}

TEST_CASE("hysteresis ignores some overflows, stays used up, and is restored after a window") {
  LossScaler scaler({.initial = 256, .growth_interval = 3, .hysteresis = 2});
  scaler.advance(true);
  CHECK(scaler.scale() == 256);
  scaler.advance(true);
  CHECK(scaler.scale() == 128);
  scaler.advance(true);
  CHECK(scaler.scale() == 64);
  for (int step = 0; step < 3; ++step) scaler.advance(false);
  CHECK(scaler.scale() == 128);
  scaler.advance(true);
  CHECK(scaler.scale() == 128);
}

TEST_CASE("a scale never becomes infinite, and a static scale never changes") {
  LossScaler growing({.initial = 1e38, .growth_interval = 1});
  for (int step = 0; step < 10; ++step) growing.advance(false);
  CHECK(growing.scale() <= std::numeric_limits<float>::max());
  CHECK(growing.scale() > 1e38);
  LossScaler fixed({.initial = 128, .growth_interval = 1, .hysteresis = 1, .dynamic = false});
  fixed.advance(false);
  CHECK(fixed.scale() == 128);
  fixed.advance(true);
  CHECK(fixed.scale() == 128);
  CHECK(fixed.exhausted());
}

// DeepSpeed's DynamicLossScaler and PyTorch's torch.amp.GradScaler after a step, with their own variables.
struct DeepSpeedScaler {
  double scale, factor, least;
  int window, hysteresis;
  bool consecutive;
  int iteration = 0, last_overflow = -1, left = hysteresis;

  void advance(bool overflow) {
    if (overflow) {
      if (hysteresis == 1 || left == 1)
        scale = std::max(scale / factor, least);
      else
        --left;
      last_overflow = iteration;
    } else {
      if (consecutive) left = hysteresis;
      if ((iteration - last_overflow) % window == 0) {
        if (!consecutive) left = hysteresis;
        scale *= factor;
      }
    }
    ++iteration;
  }
};

struct GradScaler {
  float scale, growth_factor, backoff_factor;
  int growth_interval, successful = 0;

  void advance(bool overflow) {
    if (overflow) {
      scale *= backoff_factor;
      successful = 0;
    } else if (++successful == growth_interval) {
      if (std::isfinite(scale * growth_factor)) scale *= growth_factor;
      successful = 0;
    }
  }
};

TEST_CASE(
    "for any sequence of overflows the scale equals DeepSpeed's, with consecutive hysteresis and without") {
  std::mt19937 random(1);
  for (const bool consecutive : {false, true})
    for (const int hysteresis : {1, 2, 3})
      for (const double factor : {2.0, 4.0})
        for (const int window : {1, 3, 7}) {
          CAPTURE(consecutive);
          CAPTURE(hysteresis);
          CAPTURE(window);
          DeepSpeedScaler expected{65536, factor, 0.25, window, hysteresis, consecutive};
          LossScaler scaler({.initial = 65536,
                             .growth_factor = factor,
                             .backoff_factor = 1 / factor,
                             .growth_interval = window,
                             .hysteresis = hysteresis,
                             .consecutive_hysteresis = consecutive,
                             .least = 0.25});
          for (int step = 0; step < 200; ++step) {
            const bool overflow = random() % (scaler.scale() < 1e20 ? 3 : 1) == 0;
            expected.advance(overflow);
            scaler.advance(overflow);
            REQUIRE(scaler.scale() == expected.scale);
          }
        }
}

TEST_CASE("isolated overflows never lower a scale with consecutive hysteresis") {
  for (const bool consecutive : {false, true}) {
    LossScaler scaler({.initial = 256, .hysteresis = 2, .consecutive_hysteresis = consecutive});
    for (int step = 0; step < 8; ++step) scaler.advance(step % 2 == 0);
    CHECK(scaler.scale() == (consecutive ? 256 : 32));
  }
}

TEST_CASE("with hysteresis 1 the scale equals torch.amp.GradScaler's, with separate growth and backoff factors") {
  std::mt19937 random(2);
  GradScaler expected{1024, 1.5f, 0.25f, 3};
  LossScaler scaler({.initial = 1024,
                     .growth_factor = 1.5,
                     .backoff_factor = 0.25,
                     .growth_interval = 3,
                     .hysteresis = 1,
                     .least = 0x1p-126});
  for (int step = 0; step < 30; ++step) {
    const bool overflow = random() % 8 == 0;
    expected.advance(overflow);
    scaler.advance(overflow);
    REQUIRE(static_cast<float>(scaler.scale()) == expected.scale);
  }
}

TEST_CASE("the scale is always a normal float with a finite reciprocal") {
  const LossScale widest{.initial = 1,
                         .growth_factor = 3e38,
                         .backoff_factor = 1e-300,
                         .growth_interval = 1,
                         .hysteresis = 1,
                         .least = 0x1p-126};
  CHECK_NOTHROW(widest.validate());
  LossScaler scaler(widest);
  for (int step = 0; step < 20; ++step) {
    scaler.advance(step % 8 < 3);
    const auto scale = static_cast<float>(scaler.scale());
    CHECK(std::isnormal(scale));
    CHECK(std::isfinite(1 / scale));
  }
}

}  // namespace
}  // namespace tessera::engine
