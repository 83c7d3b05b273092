#include <doctest/doctest.h>

#include <cmath>

#include "rule/same_as_reference.hpp"
#include <tessera/rule/sgd.hpp>

using namespace tessera;

static_assert(UpdateRule<Sgd>);

TEST_CASE("without momentum a step moves against the gradient") {
  const Sgd rule{.lr = 0.5};
  Sgd::State state{};
  CHECK(rule(2.0f, 3.0f, state, rule.scalars(1)) == 0.5f);
}

TEST_CASE("the first step copies the gradient to the momentum buffer, later steps damp it") {
  const Sgd rule{.lr = 1, .momentum = 0.5, .dampening = 0.25};
  Sgd::State state{};
  CHECK(rule(0.0f, 4.0f, state, rule.scalars(1)) == -4.0f);
  CHECK(rule(0.0f, 4.0f, state, rule.scalars(2)) == -(0.5f * 4 + 0.75f * 4));
}

TEST_CASE("Nesterov momentum adds the next momentum step") {
  const Sgd rule{.lr = 1, .momentum = 0.5, .nesterov = true};
  Sgd::State state{};
  CHECK(rule(0.0f, 4.0f, state, rule.scalars(1)) == -(4 + 0.5f * 4));
}

TEST_CASE("every setting has the bits of the serial reference") {
  for (const double momentum : {0.0, 0.9})
    for (const double weight_decay : {0.0, 0.01})
      for (const bool nesterov : {false, true}) {
        if (nesterov && momentum == 0) continue;
        testing::check_same_as_reference(
            Sgd{.lr = 0.1, .momentum = momentum, .weight_decay = weight_decay, .nesterov = nesterov},
            {.kind = reference::Kind::sgd,
             .lr = 0.1,
             .momentum = momentum,
             .weight_decay = weight_decay,
             .nesterov = nesterov});
      }
}

TEST_CASE("every hyperparameter that is out of range is rejected with rule and field") {
  CHECK_NOTHROW(Sgd{}.validate());
  CHECK_NOTHROW(Sgd{.lr = 0, .dampening = -1}.validate());
  const auto refuses = [](double Sgd::*field, double value, const char* text) {
    Sgd rule;
    rule.*field = value;
    CHECK_THROWS_WITH_AS(rule.validate(), doctest::Contains(text), OptionError);
  };
  for (const double bad : {std::nan(""), HUGE_VAL, -HUGE_VAL, 1e39, -1e39}) {
    CAPTURE(bad);
    refuses(&Sgd::lr, bad, "Sgd: lr must be in [0, 3.4e38], is ");
    refuses(&Sgd::momentum, bad, "Sgd: momentum must be in [0, 3.4e38], is ");
    refuses(&Sgd::dampening, bad, "Sgd: dampening must be finite, is ");
    refuses(&Sgd::weight_decay, bad, "Sgd: weight_decay must be in [0, 3.4e38], is ");
  }
  refuses(&Sgd::lr, -1e-9, "Sgd: lr must be in [0, 3.4e38], is -1e-09");
  refuses(&Sgd::momentum, -0.1, "Sgd: momentum must be in [0, 3.4e38], is -0.1");
  refuses(&Sgd::weight_decay, -1, "Sgd: weight_decay must be in [0, 3.4e38], is -1");
}

TEST_CASE("Nesterov momentum requires momentum without dampening") {
  CHECK_NOTHROW((Sgd{.momentum = 0.9, .nesterov = true}.validate()));
  CHECK_THROWS_WITH_AS(Sgd{.nesterov = true}.validate(),
                       doctest::Contains("Sgd: momentum must be above 0 with nesterov, is 0"), OptionError);
  CHECK_THROWS_WITH_AS((Sgd{.momentum = 0.9, .dampening = 0.1, .nesterov = true}.validate()),
                       doctest::Contains("Sgd: dampening must be 0 with nesterov, is 0.1"), OptionError);
}
