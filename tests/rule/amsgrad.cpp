#include <doctest/doctest.h>

#include <cmath>

#include "rule/same_as_reference.hpp"
#include <tessera/rule/amsgrad.hpp>

using namespace tessera;

static_assert(UpdateRule<AMSGrad>);

TEST_CASE("the first step of AMSGrad moves by the learning rate against the gradient's sign") {
  const AMSGrad rule{.lr = 0.001};
  for (const float gradient : {-7.0f, 0.02f}) {
    AMSGrad::State state{};
    CHECK(rule(1.0f, gradient, state, rule.scalars(1)) == doctest::Approx(1 - std::copysign(0.001, gradient)).epsilon(1e-6));
    CHECK(state.exp_avg == doctest::Approx(0.1 * gradient));
    CHECK(state.exp_avg_sq == doctest::Approx(0.001 * gradient * gradient));
    CHECK(state.max_exp_avg_sq == state.exp_avg_sq);
  }
}

TEST_CASE("AMSGrad divides by the largest second moment so far, which a small gradient does not lower") {
  const AMSGrad rule{.lr = 1, .beta1 = 0, .beta2 = 0.5, .epsilon = 0};
  AMSGrad::State state{.exp_avg = 0, .exp_avg_sq = 8, .max_exp_avg_sq = 64};
  const AMSGrad::Scalars late = rule.scalars(1000);
  CHECK(rule(0.0f, 2.0f, state, late) == -2.0f / 8);
  CHECK(state.exp_avg_sq == 6.0f);
  CHECK(state.max_exp_avg_sq == 64.0f);
  CHECK(rule(0.0f, 32.0f, state, late) == doctest::Approx(-32 / std::sqrt(515.0)));
  CHECK(state.exp_avg_sq == 515.0f);
  CHECK(state.max_exp_avg_sq == 515.0f);
}

TEST_CASE("weight decay of AMSGrad is added to the gradient, whose size has no effect in the first step") {
  const AMSGrad rule{.lr = 0.1, .weight_decay = 0.5};
  AMSGrad::State state{};
  CHECK(rule(2.0f, 0.0f, state, rule.scalars(1)) == doctest::Approx(2 - 0.1));
}

TEST_CASE("every setting of AMSGrad has the bits of the serial reference") {
  for (const double beta1 : {0.0, 0.9})
    for (const double weight_decay : {0.0, 0.1})
      testing::check_same_as_reference(
          AMSGrad{.lr = 0.01, .beta1 = beta1, .beta2 = 0.98, .epsilon = 1e-6, .weight_decay = weight_decay},
          {.kind = reference::Kind::amsgrad,
           .lr = 0.01,
           .beta1 = beta1,
           .beta2 = 0.98,
           .epsilon = 1e-6,
           .weight_decay = weight_decay});
}

TEST_CASE("every hyperparameter of AMSGrad that is out of range is rejected with rule and field") {
  CHECK_NOTHROW(AMSGrad{}.validate());
  CHECK_NOTHROW(AMSGrad{.lr = 0, .beta1 = 0, .beta2 = 0, .epsilon = 0, .weight_decay = 0}.validate());
  const auto refuses = [](double AMSGrad::*field, double value, const char* text) {
    AMSGrad rule;
    rule.*field = value;
    CHECK_THROWS_WITH_AS(rule.validate(), doctest::Contains(text), OptionError);
  };
  for (const double bad : {std::nan(""), -1e-9, HUGE_VAL, -HUGE_VAL, 1e39}) {
    CAPTURE(bad);
    refuses(&AMSGrad::lr, bad, "AMSGrad: lr must be in [0, 3.4e38], is ");
    refuses(&AMSGrad::beta1, bad, "AMSGrad: beta1 must be in [0, 1), is ");
    refuses(&AMSGrad::beta2, bad, "AMSGrad: beta2 must be in [0, 1), is ");
    refuses(&AMSGrad::epsilon, bad, "AMSGrad: epsilon must be in [0, 3.4e38], is ");
    refuses(&AMSGrad::weight_decay, bad, "AMSGrad: weight_decay must be in [0, 3.4e38], is ");
  }
  refuses(&AMSGrad::beta1, 1, "AMSGrad: beta1 must be in [0, 1), is 1");
  refuses(&AMSGrad::beta2, 1, "AMSGrad: beta2 must be in [0, 1), is 1");
}
