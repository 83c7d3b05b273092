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
    CHECK(rule(1.0f, gradient, state, rule.at(1)) == doctest::Approx(1 - std::copysign(0.001, gradient)).epsilon(1e-6));
    CHECK(state.m == doctest::Approx(0.1 * gradient));
    CHECK(state.v == doctest::Approx(0.001 * gradient * gradient));
  }
}

TEST_CASE("weight decay of Adam is part of the gradient, whose size then does not matter") {
  const Adam rule{.lr = 0.1, .weight_decay = 0.5};
  Adam::State state{};
  const float moved = rule(2.0f, 0.0f, state, rule.at(1));
  CHECK(moved == doctest::Approx(2 - 0.1));
}

TEST_CASE("every setting of Adam has the bits of the serial reference") {
  for (const double beta1 : {0.0, 0.9})
    for (const double weight_decay : {0.0, 0.1})
      testing::check_same_as_reference(
          Adam{.lr = 0.01, .beta1 = beta1, .beta2 = 0.98, .epsilon = 1e-6, .weight_decay = weight_decay},
          {.kind = reference::Kind::adam, .lr = 0.01, .beta1 = beta1, .beta2 = 0.98, .epsilon = 1e-6, .weight_decay = weight_decay});
}

TEST_CASE("a hyperparameter of Adam out of range is refused by name") {
  const double nan = std::nan("");
  CHECK_NOTHROW(Adam{}.check());
  CHECK_THROWS_WITH_AS(Adam{.lr = -1}.check(), doctest::Contains("Adam: lr"), OptionError);
  CHECK_THROWS_WITH_AS(Adam{.beta1 = 1}.check(), doctest::Contains("beta1 must be in [0, 1), is 1"), OptionError);
  CHECK_THROWS_WITH_AS(Adam{.beta2 = nan}.check(), doctest::Contains("beta2"), OptionError);
  CHECK_THROWS_WITH_AS(Adam{.epsilon = -1e-9}.check(), doctest::Contains("epsilon"), OptionError);
  CHECK_THROWS_WITH_AS(Adam{.weight_decay = nan}.check(), doctest::Contains("weight_decay"), OptionError);
}
