#include <doctest/doctest.h>

#include <cmath>

#include <tessera/rule/lars.hpp>

using namespace tessera;

static_assert(UpdateRule<Lars> && NeedsTensorNorms<Lars>);

TEST_CASE("Lars's rate is the norm of the weights over the norm of the gradient, per tensor") {
  const Lars rule{.lr = 0.5, .momentum = 0, .trust_coefficient = 0.25};
  Lars::State state{};
  const Lars::Scalars scalars = rule.with_trust_ratio(rule.scalars(1), 8, 2);
  CHECK(scalars.rate == 0.5f * 0.25f * 8 / 2);
  CHECK(rule.norm_input(3, 2, state, rule.scalars(1)) == 2);
  CHECK(rule(3, 2, state, scalars) == 3 - scalars.rate * 2);
}

TEST_CASE("weight decay of Lars enters the rate and the step") {
  const Lars rule{.lr = 1, .momentum = 0, .weight_decay = 0.5, .trust_coefficient = 1};
  Lars::State state{};
  const Lars::Scalars scalars = rule.with_trust_ratio(rule.scalars(1), 4, 2);
  CHECK(scalars.rate == 1.0f);  // 4 / (2 + 0.5 * 4)
  CHECK(rule(4, 2, state, scalars) == 4 - (2 + 0.5f * 4));
}

TEST_CASE("Lars's momentum accumulates steps, not gradients") {
  const Lars rule{.lr = 1, .momentum = 0.5, .trust_coefficient = 1};
  Lars::State state{};
  float weight = rule(10, 1, state, rule.with_trust_ratio(rule.scalars(1), 2, 1));
  CHECK(weight == 8);
  weight = rule(weight, 1, state, rule.with_trust_ratio(rule.scalars(2), 1, 1));
  CHECK(weight == 8 - (0.5f * 2 + 1));
}

TEST_CASE("if the norm of weights or gradient is 0, Lars uses lr as the rate") {
  const Lars rule{.lr = 0.25};
  CHECK(rule.with_trust_ratio(rule.scalars(1), 0, 2).rate == 0.25f);
  CHECK(rule.with_trust_ratio(rule.scalars(1), 2, 0).rate == 0.25f);
}

TEST_CASE("every hyperparameter of Lars that is out of range is rejected with rule and field") {
  CHECK_NOTHROW(Lars{}.validate());
  const auto refuses = [](double Lars::*field, double value, const char* text) {
    Lars rule;
    rule.*field = value;
    CHECK_THROWS_WITH_AS(rule.validate(), doctest::Contains(text), OptionError);
  };
  for (const double bad : {std::nan(""), -1e-9, HUGE_VAL, -HUGE_VAL, 1e39}) {
    CAPTURE(bad);
    refuses(&Lars::lr, bad, "Lars: lr must be in [0, 3.4e38], is ");
    refuses(&Lars::momentum, bad, "Lars: momentum must be in [0, 1), is ");
    refuses(&Lars::weight_decay, bad, "Lars: weight_decay must be in [0, 3.4e38], is ");
    refuses(&Lars::trust_coefficient, bad, "Lars: trust_coefficient must be in [0, 3.4e38], is ");
  }
}
