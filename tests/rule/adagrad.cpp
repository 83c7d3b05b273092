#include <doctest/doctest.h>

#include <cmath>

#include "rule/same_as_reference.hpp"
#include <tessera/rule/adagrad.hpp>

using namespace tessera;

static_assert(UpdateRule<Adagrad>);

TEST_CASE("the first step of Adagrad moves by the learning rate against the gradient's sign, the second by less") {
  const Adagrad rule{.lr = 0.5};
  for (const float gradient : {-8.0f, 0.25f}) {
    Adagrad::State state{};
    const float first = rule(1.0f, gradient, state, rule.scalars(1));
    CHECK(first == doctest::Approx(1 - std::copysign(0.5, gradient)));
    CHECK(state.sum == gradient * gradient);
    const float second = rule(first, gradient, state, rule.scalars(2));
    CHECK(second == doctest::Approx(first - std::copysign(0.5 / std::sqrt(2.0), gradient)));
    CHECK(state.sum == 2 * gradient * gradient);
  }
}

TEST_CASE("Adagrad's initial value is added in the first step only") {
  const Adagrad rule{.lr = 1, .initial_accumulator_value = 7};
  Adagrad::State state{};
  CHECK(rule(0.0f, 3.0f, state, rule.scalars(1)) == doctest::Approx(-3.0 / 4));
  CHECK(state.sum == 16.0f);
  CHECK(rule(0.0f, 3.0f, state, rule.scalars(2)) == doctest::Approx(-3.0 / 5));
  CHECK(state.sum == 25.0f);
}

TEST_CASE("Adagrad's learning rate decays from the second step on, for any number of steps") {
  const Adagrad rule{.lr = 0.5, .lr_decay = 0.25};
  CHECK(rule.scalars(1).step_size == 0.5f);
  CHECK(rule.scalars(2).step_size == 0.5f / 1.25f);
  CHECK(rule.scalars(5).step_size == 0.25f);
  CHECK(rule.scalars(index_t{1} << 62).step_size == doctest::Approx(std::ldexp(1.0, -61)));
}

TEST_CASE("weight decay of Adagrad is added to the gradient, whose size has no effect in the first step") {
  const Adagrad rule{.lr = 0.1, .weight_decay = 0.5};
  Adagrad::State state{};
  CHECK(rule(2.0f, 0.0f, state, rule.scalars(1)) == doctest::Approx(2 - 0.1));
}

TEST_CASE("every setting of Adagrad has the bits of the serial reference") {
  for (const double lr_decay : {0.0, 0.05})
    for (const double initial : {0.0, 0.3})
      for (const double weight_decay : {0.0, 0.1})
        testing::check_same_as_reference(Adagrad{.lr = 0.1,
                                                 .lr_decay = lr_decay,
                                                 .weight_decay = weight_decay,
                                                 .initial_accumulator_value = initial,
                                                 .epsilon = 1e-6},
                                         {.kind = reference::Kind::adagrad,
                                          .lr = 0.1,
                                          .epsilon = 1e-6,
                                          .weight_decay = weight_decay,
                                          .lr_decay = lr_decay,
                                          .initial_accumulator_value = initial});
}

TEST_CASE("every hyperparameter of Adagrad that is out of range is rejected with rule and field") {
  CHECK_NOTHROW(Adagrad{}.validate());
  CHECK_NOTHROW(
      Adagrad{.lr = 0, .lr_decay = 0, .weight_decay = 0, .initial_accumulator_value = 0, .epsilon = 0}.validate());
  const auto refuses = [](double Adagrad::*field, double value, const char* text) {
    Adagrad rule;
    rule.*field = value;
    CHECK_THROWS_WITH_AS(rule.validate(), doctest::Contains(text), OptionError);
  };
  for (const double bad : {std::nan(""), -1e-9, HUGE_VAL, -HUGE_VAL, 1e39}) {
    CAPTURE(bad);
    refuses(&Adagrad::lr, bad, "Adagrad: lr must be in [0, 3.4e38], is ");
    refuses(&Adagrad::lr_decay, bad, "Adagrad: lr_decay must be in [0, 3.4e38], is ");
    refuses(&Adagrad::weight_decay, bad, "Adagrad: weight_decay must be in [0, 3.4e38], is ");
    refuses(&Adagrad::initial_accumulator_value, bad, "Adagrad: initial_accumulator_value must be in [0, 3.4e38], is ");
    refuses(&Adagrad::epsilon, bad, "Adagrad: epsilon must be in [0, 3.4e38], is ");
  }
}
