#include <doctest/doctest.h>

#include <tessera/engine/report.hpp>

TEST_CASE("a step was applied unless a tensor with a non-finite gradient is named") {
  const tessera::Report good(3, 0.5, "");
  CHECK(good.applied());
  CHECK(good.step() == 3);
  CHECK(good.gradient_norm() == 0.5);
  CHECK(good.loss_scale() == 1);
  const tessera::Report skipped(3, 0.5, "head.bias");
  CHECK_FALSE(skipped.applied());
  CHECK(skipped.first_non_finite() == "head.bias");
}
