#include <doctest/doctest.h>

#include <limits>

#include <tessera/engine/loss_scale.hpp>

namespace tessera {
namespace {

// Sequences of DeepSpeed's tests/unit/runtime/half_precision/test_dynamic_loss_scale.py.

TEST_CASE("clean steps double the scale after every window") {
  LossScaler scaler({.initial = 256, .window = 2});
  double expected = 256;
  for (int step = 1; step <= 10; ++step) {
    scaler.advance(false);
    if (step % 2 == 0) expected *= 2;
    CHECK(scaler.scale() == expected);
  }
}

TEST_CASE("overflows halve it down to the least, and what cannot be lowered is said") {
  LossScaler scaler({.initial = 16, .window = 2, .hysteresis = 1});
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

TEST_CASE("eight overflows from 2^8 end at 1, and a window counts from the last of them") {
  LossScaler scaler({.initial = 256, .window = 2, .hysteresis = 1});
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

TEST_CASE("hysteresis lets overflows pass, is used up for good, and is there again after a window") {
  LossScaler scaler({.initial = 256, .window = 3, .hysteresis = 2});
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

TEST_CASE("a scale never becomes infinite, and a static one never changes") {
  LossScaler growing({.initial = 1e38, .window = 1});
  for (int step = 0; step < 10; ++step) growing.advance(false);
  CHECK(growing.scale() <= std::numeric_limits<float>::max());
  CHECK(growing.scale() > 1e38);
  LossScaler fixed({.initial = 128, .window = 1, .hysteresis = 1, .dynamic = false});
  fixed.advance(false);
  CHECK(fixed.scale() == 128);
  fixed.advance(true);
  CHECK(fixed.scale() == 128);
  CHECK(fixed.exhausted());
}

}  // namespace
}  // namespace tessera
