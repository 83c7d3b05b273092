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
    CHECK(rule(1.0f, gradient, state, rule.at(1)) == doctest::Approx(1 - std::copysign(0.001, gradient)).epsilon(1e-6));
    CHECK(state.m == doctest::Approx(0.1 * gradient));
    CHECK(state.v == doctest::Approx(0.001 * gradient * gradient));
  }
}

TEST_CASE("weight decay of AdamW shrinks the weight beside the gradient") {
  const AdamW rule{.lr = 0.1, .weight_decay = 0.5};
  AdamW::State state{};
  const float moved = rule(2.0f, 0.0f, state, rule.at(1));
  CHECK(moved == doctest::Approx(2 * (1 - 0.1 * 0.5)));
}

TEST_CASE("every setting of AdamW has the bits of the serial reference") {
  for (const double beta1 : {0.0, 0.9})
    for (const double weight_decay : {0.0, 0.1})
      testing::check_same_as_reference(
          AdamW{.lr = 0.01, .beta1 = beta1, .beta2 = 0.98, .epsilon = 1e-6, .weight_decay = weight_decay},
          {.kind = reference::Kind::adamw, .lr = 0.01, .beta1 = beta1, .beta2 = 0.98, .epsilon = 1e-6, .weight_decay = weight_decay});
}

TEST_CASE("a hyperparameter of AdamW out of range is refused by name") {
  const double nan = std::nan("");
  CHECK_NOTHROW(AdamW{}.check());
  CHECK_THROWS_WITH_AS(AdamW{.lr = -1}.check(), doctest::Contains("AdamW: lr"), OptionError);
  CHECK_THROWS_WITH_AS(AdamW{.beta1 = 1}.check(), doctest::Contains("beta1 must be in [0, 1), is 1"), OptionError);
  CHECK_THROWS_WITH_AS(AdamW{.beta2 = nan}.check(), doctest::Contains("beta2"), OptionError);
  CHECK_THROWS_WITH_AS(AdamW{.epsilon = -1e-9}.check(), doctest::Contains("epsilon"), OptionError);
  CHECK_THROWS_WITH_AS(AdamW{.weight_decay = nan}.check(), doctest::Contains("weight_decay"), OptionError);
}
