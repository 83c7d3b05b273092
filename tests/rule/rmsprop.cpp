#include <doctest/doctest.h>

#include <cmath>

#include "rule/same_as_reference.hpp"
#include <tessera/rule/rmsprop.hpp>

using namespace tessera;

static_assert(UpdateRule<RMSprop>);

TEST_CASE("the first step of RMSprop moves by lr / sqrt(1 - alpha) against the gradient's sign") {
  const RMSprop rule{.lr = 0.01, .alpha = 0.75};
  for (const float gradient : {-8.0f, 0.25f}) {
    RMSprop::State state{};
    CHECK(rule(1.0f, gradient, state, rule.scalars(1)) == doctest::Approx(1 - std::copysign(0.02, gradient)));
    CHECK(state.square_avg == 0.25f * gradient * gradient);
  }
}

TEST_CASE("RMSprop's step does not depend on the step number, and its epsilon is outside the root") {
  const RMSprop rule{.lr = 1, .alpha = 0.75, .epsilon = 2};
  RMSprop::State early{}, late{};
  CHECK(rule(0.0f, 4.0f, early, rule.scalars(1)) == -1.0f);  // 4 / (sqrt(0.25 * 16) + 2)
  CHECK(rule(0.0f, 4.0f, late, rule.scalars(1000)) == -1.0f);
}

TEST_CASE("weight decay of RMSprop is added to the gradient") {
  const RMSprop rule{.lr = 0.1, .alpha = 0.75, .weight_decay = 0.5};
  RMSprop::State state{};
  CHECK(rule(2.0f, 0.0f, state, rule.scalars(1)) == doctest::Approx(2 - 0.2));
  CHECK(state.square_avg == 0.25f);
}

TEST_CASE("every setting of RMSprop has the bits of the serial reference") {
  for (const double alpha : {0.0, 0.9})
    for (const double weight_decay : {0.0, 0.1})
      testing::check_same_as_reference(
          RMSprop{.lr = 0.01, .alpha = alpha, .epsilon = 1e-6, .weight_decay = weight_decay},
          {.kind = reference::Kind::rmsprop,
           .lr = 0.01,
           .epsilon = 1e-6,
           .weight_decay = weight_decay,
           .alpha = alpha});
}

TEST_CASE("every hyperparameter of RMSprop that is out of range is rejected with rule and field") {
  CHECK_NOTHROW(RMSprop{}.validate());
  CHECK_NOTHROW(RMSprop{.lr = 0, .alpha = 0, .epsilon = 0, .weight_decay = 0}.validate());
  const auto refuses = [](double RMSprop::*field, double value, const char* text) {
    RMSprop rule;
    rule.*field = value;
    CHECK_THROWS_WITH_AS(rule.validate(), doctest::Contains(text), OptionError);
  };
  for (const double bad : {std::nan(""), -1e-9, HUGE_VAL, -HUGE_VAL, 1e39}) {
    CAPTURE(bad);
    refuses(&RMSprop::lr, bad, "RMSprop: lr must be in [0, 3.4e38], is ");
    refuses(&RMSprop::alpha, bad, "RMSprop: alpha must be in [0, 1), is ");
    refuses(&RMSprop::epsilon, bad, "RMSprop: epsilon must be in [0, 3.4e38], is ");
    refuses(&RMSprop::weight_decay, bad, "RMSprop: weight_decay must be in [0, 3.4e38], is ");
  }
  refuses(&RMSprop::alpha, 1, "RMSprop: alpha must be in [0, 1), is 1");
}
