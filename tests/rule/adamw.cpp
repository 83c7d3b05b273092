#include <doctest/doctest.h>

#include <cmath>

#include "rule/same_as_reference.hpp"
#include <tessera/rule/adamw.hpp>

using namespace tessera;

static_assert(UpdateRule<AdamW>);

TEST_CASE("the first step of AdamW moves by the learning rate against the gradient's sign") {
  const AdamW rule{.lr = 0.001, .weight_decay = 0};
  for (const float gradient : {-7.0f, 0.02f}) {
    AdamW::State state{};
    CHECK(rule(1.0f, gradient, state, rule.scalars(1)) == doctest::Approx(1 - std::copysign(0.001, gradient)).epsilon(1e-6));
    CHECK(state.exp_avg == doctest::Approx(0.1 * gradient));
    CHECK(state.exp_avg_sq == doctest::Approx(0.001 * gradient * gradient));
  }
}

TEST_CASE("weight decay of AdamW shrinks the weight independently of the gradient") {
  const AdamW rule{.lr = 0.1, .weight_decay = 0.5};
  AdamW::State state{};
  const float moved = rule(2.0f, 0.0f, state, rule.scalars(1));
  CHECK(moved == doctest::Approx(2 * (1 - 0.1 * 0.5)));
}

TEST_CASE("every setting of AdamW has the bits of the serial reference") {
  for (const double beta1 : {0.0, 0.9})
    for (const double weight_decay : {0.0, 0.1})
      testing::check_same_as_reference(
          AdamW{.lr = 0.01, .beta1 = beta1, .beta2 = 0.98, .epsilon = 1e-6, .weight_decay = weight_decay},
          {.kind = reference::Kind::adamw,
           .lr = 0.01,
           .beta1 = beta1,
           .beta2 = 0.98,
           .epsilon = 1e-6,
           .weight_decay = weight_decay});
}

TEST_CASE("every hyperparameter of AdamW that is out of range is rejected with rule and field") {
  CHECK_NOTHROW(AdamW{}.validate());
  CHECK_NOTHROW(AdamW{.lr = 0, .beta1 = 0, .beta2 = 0, .epsilon = 0, .weight_decay = 0}.validate());
  const auto refuses = [](double AdamW::*field, double value, const char* text) {
    AdamW rule;
    rule.*field = value;
    CHECK_THROWS_WITH_AS(rule.validate(), doctest::Contains(text), OptionError);
  };
  for (const double bad : {std::nan(""), -1e-9, HUGE_VAL, -HUGE_VAL, 1e39}) {
    CAPTURE(bad);
    refuses(&AdamW::lr, bad, "AdamW: lr must be in [0, 3.4e38], is ");
    refuses(&AdamW::beta1, bad, "AdamW: beta1 must be in [0, 1), is ");
    refuses(&AdamW::beta2, bad, "AdamW: beta2 must be in [0, 1), is ");
    refuses(&AdamW::epsilon, bad, "AdamW: epsilon must be in [0, 3.4e38], is ");
    refuses(&AdamW::weight_decay, bad, "AdamW: weight_decay must be in [0, 3.4e38], is ");
  }
  refuses(&AdamW::beta1, 1, "AdamW: beta1 must be in [0, 1), is 1");
  refuses(&AdamW::beta2, 1, "AdamW: beta2 must be in [0, 1), is 1");
}
