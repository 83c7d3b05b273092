#include <doctest/doctest.h>

#include <cmath>
#include <cstdint>

#include "rule/same_as_reference.hpp"
#include <tessera/rule/lion.hpp>

using namespace tessera;

static_assert(UpdateRule<Lion>);

TEST_CASE("Lion moves by the learning rate against the sign of the interpolation, and does not move where that is 0") {
  const Lion rule{.lr = 0.25, .beta1 = 0.5, .beta2 = 0.75};
  for (const float gradient : {-8.0f, 0.0f, 1e-30f}) {
    Lion::State state{};
    const float sign = gradient > 0 ? 1.0f : gradient < 0 ? -1.0f : 0.0f;
    CHECK(rule(1.0f, gradient, state, rule.scalars(1)) == 1 - 0.25f * sign);
    CHECK(state.exp_avg == 0.25f * gradient);
  }
}

TEST_CASE("Lion takes the sign with beta1 before it updates the momentum with beta2") {
  const Lion rule{.lr = 0.25, .beta1 = 0.5, .beta2 = 0.75};
  Lion::State state{.exp_avg = 4};
  CHECK(rule(1.0f, -3.0f, state, rule.scalars(7)) == 0.75f);  // 0.5 * 4 - 0.5 * 3 is above 0
  CHECK(state.exp_avg == 0.75f * 4 - 0.25f * 3);
  state = {.exp_avg = 4};
  CHECK(rule(1.0f, -5.0f, state, rule.scalars(7)) == 1.25f);
}

TEST_CASE("weight decay of Lion shrinks the weight independently of the gradient") {
  const Lion rule{.lr = 0.5, .weight_decay = 0.5};
  Lion::State state{};
  CHECK(rule(2.0f, 0.0f, state, rule.scalars(1)) == 1.5f);
  CHECK(state.exp_avg == 0.0f);
}

// PyTorch has no Lion. If c were near 0, it could have the other sign in float32; with these gradients it never is.
TEST_CASE("Lion follows algorithm 2 of Chen et al. in float64 for 100 steps") {
  for (const double weight_decay : {0.0, 0.1, 1.0}) {
    const Lion rule{.lr = 0.01, .beta1 = 0.9, .beta2 = 0.99, .weight_decay = weight_decay};
    for (std::uint64_t element = 0; element < 16; ++element) {
      float weight = testing::uniform(3, element);
      double expected = weight, m = 0;
      Lion::State state{};
      for (int t = 1; t <= 100; ++t) {
        const float gradient = testing::uniform(4, element, static_cast<std::uint64_t>(t));
        weight = rule(weight, gradient, state, rule.scalars(t));
        const double c = 0.9 * m + (1 - 0.9) * gradient;
        REQUIRE(std::fabs(c) > 1e-6);
        expected -= 0.01 * (std::copysign(1.0, c) + weight_decay * expected);
        m = 0.99 * m + (1 - 0.99) * gradient;
      }
      CHECK(std::fabs(weight - expected) <= 16 * std::ldexp(1.0, -23));  // largest seen: 9.4; a wrong sign: 0.02
      CHECK(std::fabs(state.exp_avg - m) <= std::ldexp(1.0, -23));
    }
  }
}

TEST_CASE("every setting of Lion has the bits of the serial reference") {
  for (const double beta1 : {0.0, 0.9})
    for (const double weight_decay : {0.0, 0.1})
      testing::check_same_as_reference(
          Lion{.lr = 0.01, .beta1 = beta1, .beta2 = 0.98, .weight_decay = weight_decay},
          {.kind = reference::Kind::lion, .lr = 0.01, .beta1 = beta1, .beta2 = 0.98, .weight_decay = weight_decay});
}

TEST_CASE("every hyperparameter of Lion that is out of range is rejected with rule and field") {
  CHECK_NOTHROW(Lion{}.validate());
  CHECK_NOTHROW(Lion{.lr = 0, .beta1 = 0, .beta2 = 0, .weight_decay = 0}.validate());
  const auto refuses = [](double Lion::*field, double value, const char* text) {
    Lion rule;
    rule.*field = value;
    CHECK_THROWS_WITH_AS(rule.validate(), doctest::Contains(text), OptionError);
  };
  for (const double bad : {std::nan(""), -1e-9, HUGE_VAL, -HUGE_VAL, 1e39}) {
    CAPTURE(bad);
    refuses(&Lion::lr, bad, "Lion: lr must be in [0, 3.4e38], is ");
    refuses(&Lion::beta1, bad, "Lion: beta1 must be in [0, 1), is ");
    refuses(&Lion::beta2, bad, "Lion: beta2 must be in [0, 1), is ");
    refuses(&Lion::weight_decay, bad, "Lion: weight_decay must be in [0, 3.4e38], is ");
  }
  refuses(&Lion::beta1, 1, "Lion: beta1 must be in [0, 1), is 1");
  refuses(&Lion::beta2, 1, "Lion: beta2 must be in [0, 1), is 1");
}
