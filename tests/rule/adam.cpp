#include <doctest/doctest.h>

#include <cmath>

#include "rule/same_as_reference.hpp"
#include <tessera/rule/adam.hpp>

using namespace tessera;

static_assert(UpdateRule<Adam>);

TEST_CASE("the first step of Adam moves by the learning rate against the gradient's sign") {
  const Adam rule{.lr = 0.001, .weight_decay = 0};
  for (const float gradient : {-7.0f, 0.02f}) {
    Adam::State state{};
    CHECK(rule(1.0f, gradient, state, rule.scalars(1)) == doctest::Approx(1 - std::copysign(0.001, gradient)).epsilon(1e-6));
    CHECK(state.exp_avg == doctest::Approx(0.1 * gradient));
    CHECK(state.exp_avg_sq == doctest::Approx(0.001 * gradient * gradient));
  }
}

TEST_CASE("weight decay of Adam is added to the gradient, whose size has no effect in the first step") {
  const Adam rule{.lr = 0.1, .weight_decay = 0.5};
  Adam::State state{};
  const float moved = rule(2.0f, 0.0f, state, rule.scalars(1));
  CHECK(moved == doctest::Approx(2 - 0.1));
}

TEST_CASE("every setting of Adam has the bits of the serial reference") {
  for (const double beta1 : {0.0, 0.9})
    for (const double weight_decay : {0.0, 0.1})
      testing::check_same_as_reference(
          Adam{.lr = 0.01, .beta1 = beta1, .beta2 = 0.98, .epsilon = 1e-6, .weight_decay = weight_decay},
          {.kind = reference::Kind::adam,
           .lr = 0.01,
           .beta1 = beta1,
           .beta2 = 0.98,
           .epsilon = 1e-6,
           .weight_decay = weight_decay});
}

TEST_CASE("every hyperparameter of Adam that is out of range is rejected with rule and field") {
  CHECK_NOTHROW(Adam{}.validate());
  CHECK_NOTHROW(Adam{.lr = 0, .beta1 = 0, .beta2 = 0, .epsilon = 0, .weight_decay = 0}.validate());
  const auto refuses = [](double Adam::*field, double value, const char* text) {
    Adam rule;
    rule.*field = value;
    CHECK_THROWS_WITH_AS(rule.validate(), doctest::Contains(text), OptionError);
  };
  for (const double bad : {std::nan(""), -1e-9, HUGE_VAL, -HUGE_VAL, 1e39}) {
    CAPTURE(bad);
    refuses(&Adam::lr, bad, "Adam: lr must be in [0, 3.4e38], is ");
    refuses(&Adam::beta1, bad, "Adam: beta1 must be in [0, 1), is ");
    refuses(&Adam::beta2, bad, "Adam: beta2 must be in [0, 1), is ");
    refuses(&Adam::epsilon, bad, "Adam: epsilon must be in [0, 3.4e38], is ");
    refuses(&Adam::weight_decay, bad, "Adam: weight_decay must be in [0, 3.4e38], is ");
  }
  refuses(&Adam::beta1, 1, "Adam: beta1 must be in [0, 1), is 1");
  refuses(&Adam::beta2, 1, "Adam: beta2 must be in [0, 1), is 1");
}
