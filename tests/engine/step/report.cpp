#include <doctest/doctest.h>

#include <cmath>

#include <tessera/engine/step/report.hpp>

namespace tessera::engine {
namespace {

Layout layout_with_bias() {
  Layout layout;
  layout.add_unit("head");
  layout.add_tensor("weight", {10});
  layout.add_tensor("bias", {5});
  return layout;
}

Report report_of(const Layout& layout, const StepOutcome& outcome) {
  return Report(HostReadBack<StepOutcome>(outcome), HostEvent{}, layout, 7);
}

TEST_CASE("a step is applied unless a gradient was not finite, and that gradient's tensor is named") {
  const Layout layout = layout_with_bias();
  const Report good = report_of(layout, {.steps = 3, .gradient_norm = 0.5, .applied = true});
  CHECK(good.applied());
  CHECK(good.first_non_finite().empty());
  CHECK(good.step() == 3);
  CHECK(good.gradient_norm() == 0.5);
  CHECK(good.loss_scale() == 1);
  const Report skipped = report_of(layout, {.gradient_norm = HUGE_VAL, .loss_scale = 8, .first_non_finite = 12});
  CHECK_FALSE(skipped.applied());
  CHECK(skipped.first_non_finite() == "head.bias");
  CHECK(skipped.step() == 0);
  CHECK(skipped.loss_scale() == 8);
}

TEST_CASE("the tensor of the first element is named too") {
  const Layout layout = layout_with_bias();
  CHECK(report_of(layout, {.first_non_finite = 0}).first_non_finite() == "head.weight");
  CHECK(report_of(layout, {.first_non_finite_weight = 0}).first_non_finite_weight() == "head.weight");
  CHECK(report_of(layout, {}).first_non_finite_weight().empty());
}

TEST_CASE("the norm alone does not tell whether a step was skipped") {
  CHECK(report_of(layout_with_bias(), {.gradient_norm = std::nan(""), .applied = true}).applied());
}

TEST_CASE("a step count has 64 bits") {
  CHECK(report_of(layout_with_bias(), {.steps = index_t{1} << 40}).step() == index_t{1} << 40);
}

TEST_CASE("the report of a step in which ranks differed throws for every other question") {
  const Layout layout = layout_with_bias();
  CHECK_THROWS_WITH_AS(static_cast<void>(report_of(layout, {.differs = 2}).applied()),
                       doctest::Contains("step 7: rank 2 has another number of micro-batches"), AgreementError);
}

TEST_CASE("an exhausted loss scale is reported") {
  const Layout layout = layout_with_bias();
  CHECK_FALSE(report_of(layout, {}).loss_scale_exhausted());
  CHECK(report_of(layout, {.loss_scale_exhausted = true}).loss_scale_exhausted());
}

}  // namespace
}  // namespace tessera::engine
