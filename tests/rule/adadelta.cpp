#include <doctest/doctest.h>

#include <cmath>

#include "rule/same_as_reference.hpp"
#include <tessera/rule/adadelta.hpp>

using namespace tessera;

static_assert(UpdateRule<Adadelta>);

TEST_CASE("the first step of Adadelta has the size of the root of epsilon") {
  const Adadelta rule{.lr = 1, .rho = 0.75, .epsilon = 1e-6};
  for (const float gradient : {-8.0f, 0.25f}) {
    Adadelta::State state{};
    const double delta = std::copysign(1e-3 / std::sqrt(0.25), gradient);
    CHECK(rule(1.0f, gradient, state, rule.scalars(1)) == doctest::Approx(1 - delta).epsilon(1e-6));
    CHECK(state.square_avg == 0.25f * gradient * gradient);
    CHECK(state.acc_delta == doctest::Approx(0.25 * delta * delta).epsilon(1e-4));
  }
}

TEST_CASE("Adadelta's next step is scaled by earlier steps, and lr scales it without entering the state") {
  Adadelta::State state{.square_avg = 4, .acc_delta = 9};
  const Adadelta rule{.lr = 0.5, .rho = 0.0, .epsilon = 0};
  CHECK(rule(0.0f, 2.0f, state, rule.scalars(9)) == -1.5f);  // sqrt(9) / sqrt(4) * 2 * 0.5
  CHECK(state.square_avg == 4.0f);
  CHECK(state.acc_delta == 9.0f);
}

TEST_CASE("Adadelta's epsilon is inside both roots") {
  Adadelta::State state{};
  const Adadelta rule{.lr = 1, .rho = 0.0, .epsilon = 3};
  CHECK(rule(0.0f, 3.0f, state, rule.scalars(1)) == -1.5f);  // sqrt(0 + 3) / sqrt(9 + 3) * 3
}

TEST_CASE("weight decay of Adadelta is added to the gradient") {
  const Adadelta rule{.rho = 0.75, .weight_decay = 0.5};
  Adadelta::State state{};
  CHECK(rule(2.0f, 0.0f, state, rule.scalars(1)) == doctest::Approx(2 - 0.002).epsilon(1e-6));
  CHECK(state.square_avg == 0.25f);
}

TEST_CASE("every setting of Adadelta has the bits of the serial reference") {
  for (const double rho : {0.0, 0.9})
    for (const double weight_decay : {0.0, 0.1})
      testing::check_same_as_reference(
          Adadelta{.lr = 0.7, .rho = rho, .epsilon = 1e-5, .weight_decay = weight_decay},
          {.kind = reference::Kind::adadelta, .lr = 0.7, .epsilon = 1e-5, .weight_decay = weight_decay, .rho = rho});
}

TEST_CASE("every hyperparameter of Adadelta that is out of range is rejected with rule and field") {
  CHECK_NOTHROW(Adadelta{}.validate());
  CHECK_NOTHROW(Adadelta{.lr = 0, .rho = 0, .epsilon = 0, .weight_decay = 0}.validate());
  const auto refuses = [](double Adadelta::*field, double value, const char* text) {
    Adadelta rule;
    rule.*field = value;
    CHECK_THROWS_WITH_AS(rule.validate(), doctest::Contains(text), OptionError);
  };
  for (const double bad : {std::nan(""), -1e-9, HUGE_VAL, -HUGE_VAL, 1e39}) {
    CAPTURE(bad);
    refuses(&Adadelta::lr, bad, "Adadelta: lr must be in [0, 3.4e38], is ");
    refuses(&Adadelta::rho, bad, "Adadelta: rho must be in [0, 1), is ");
    refuses(&Adadelta::epsilon, bad, "Adadelta: epsilon must be in [0, 3.4e38], is ");
    refuses(&Adadelta::weight_decay, bad, "Adadelta: weight_decay must be in [0, 3.4e38], is ");
  }
  refuses(&Adadelta::rho, 1, "Adadelta: rho must be in [0, 1), is 1");
}
