#include <doctest/doctest.h>

#include <cmath>

#include <tessera/engine/report.hpp>

using tessera::Report;

TEST_CASE("a step was applied unless a tensor with a non-finite gradient is named") {
  const Report good(3, 0.5, "");
  CHECK(good.applied());
  CHECK(good.first_non_finite().empty());
  const Report skipped(3, 0.5, "head.bias");
  CHECK_FALSE(skipped.applied());
  CHECK(skipped.first_non_finite() == "head.bias");
}

TEST_CASE("a report tells the count of steps and the norm as they were, also of a step that was not applied") {
  CHECK(Report(3, 0.5, "").step() == 3);
  CHECK(Report(3, 0.5, "").gradient_norm() == 0.5);
  CHECK(Report(0, 0, "head.bias").step() == 0);
  CHECK(std::isinf(Report(0, HUGE_VAL, "head.bias").gradient_norm()));
  CHECK(Report(tessera::index_t{1} << 40, 0, "").step() == tessera::index_t{1} << 40);
}

TEST_CASE("the norm alone does not say that a step was skipped") { CHECK(Report(1, std::nan(""), "").applied()); }

TEST_CASE("without loss scaling the scale is 1") {
  CHECK(Report(1, 0.5, "").loss_scale() == 1);
  CHECK(Report(1, 0.5, "head.bias").loss_scale() == 1);
}
