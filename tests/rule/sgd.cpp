#include <doctest/doctest.h>

#include <cmath>

#include "rule/same_as_reference.hpp"
#include <tessera/rule/sgd.hpp>

using namespace tessera;

static_assert(UpdateRule<Sgd>);

TEST_CASE("without momentum a step goes down the gradient") {
  const Sgd rule{.lr = 0.5};
  Sgd::State state{};
  CHECK(rule(2.0f, 3.0f, state, rule.at(1)) == 0.5f);
}

TEST_CASE("the first step fills the momentum buffer undamped, later ones damp and keep") {
  const Sgd rule{.lr = 1, .momentum = 0.5, .dampening = 0.25};
  Sgd::State state{};
  CHECK(rule(0.0f, 4.0f, state, rule.at(1)) == -4.0f);
  CHECK(rule(0.0f, 4.0f, state, rule.at(2)) == -(0.5f * 4 + 0.75f * 4));
}

TEST_CASE("Nesterov looks ahead") {
  const Sgd rule{.lr = 1, .momentum = 0.5, .nesterov = true};
  Sgd::State state{};
  CHECK(rule(0.0f, 4.0f, state, rule.at(1)) == -(4 + 0.5f * 4));
}

TEST_CASE("every setting has the bits of the serial reference") {
  for (const double momentum : {0.0, 0.9})
    for (const double weight_decay : {0.0, 0.01})
      for (const bool nesterov : {false, true}) {
        if (nesterov && momentum == 0) continue;
        testing::check_same_as_reference(
            Sgd{.lr = 0.1, .momentum = momentum, .weight_decay = weight_decay, .nesterov = nesterov},
            {.kind = reference::Kind::sgd, .lr = 0.1, .momentum = momentum, .weight_decay = weight_decay, .nesterov = nesterov});
      }
}

TEST_CASE("a hyperparameter out of range is refused by name") {
  CHECK_NOTHROW(Sgd{}.check());
  CHECK_THROWS_WITH_AS(Sgd{.lr = -1}.check(), doctest::Contains("Sgd: lr"), OptionError);
  CHECK_THROWS_WITH_AS(Sgd{.lr = std::nan("")}.check(), doctest::Contains("lr"), OptionError);
  CHECK_THROWS_WITH_AS(Sgd{.momentum = -0.1}.check(), doctest::Contains("momentum"), OptionError);
  CHECK_THROWS_WITH_AS(Sgd{.dampening = std::nan("")}.check(), doctest::Contains("dampening"), OptionError);
  CHECK_THROWS_WITH_AS(Sgd{.weight_decay = -1}.check(), doctest::Contains("weight_decay"), OptionError);
  CHECK_THROWS_WITH_AS(Sgd{.nesterov = true}.check(), doctest::Contains("momentum"), OptionError);
  CHECK_THROWS_WITH_AS((Sgd{.momentum = 0.9, .dampening = 0.1, .nesterov = true}.check()), doctest::Contains("dampening"), OptionError);
}
