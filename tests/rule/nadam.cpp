#include <doctest/doctest.h>

#include <cmath>
#include <limits>

#include "rule/same_as_reference.hpp"
#include <tessera/rule/nadam.hpp>

using namespace tessera;

static_assert(UpdateRule<NAdam>);

TEST_CASE("NAdam adds the gradient and the next momentum, each divided by its own bias correction") {
  const NAdam rule{.lr = 0.5, .beta1 = 0.5, .beta2 = 0.75, .epsilon = 0, .momentum_decay = 0};
  NAdam::State state{};
  // mu is always 0.5 (1 - 0.5) = 0.25; the products are 0.25 and 0.0625; the corrected v is g^2.
  const float moved = rule(1.0f, -8.0f, state, rule.scalars(1));
  CHECK(moved == doctest::Approx(1 + 0.5 * (0.75 / 0.75 + 0.25 / 0.9375 * 0.5)));
  CHECK(state.exp_avg == -4.0f);
  CHECK(state.exp_avg_sq == 16.0f);
}

TEST_CASE("weight decay of NAdam is added to the gradient") {
  const NAdam decayed{.lr = 0.1, .weight_decay = 0.5}, plain{.lr = 0.1};
  NAdam::State a{}, b{};
  CHECK(decayed(2.0f, 0.25f, a, decayed.scalars(1)) == plain(2.0f, 1.25f, b, plain.scalars(1)));
  CHECK(a.exp_avg == b.exp_avg);
}

TEST_CASE("NAdam's momentum product covers all steps so far, although its loop ends early") {
  for (const double beta1 : {0.0, 0.5, 0.9, 0.999, 0.999999})
    for (const double momentum_decay : {0.0, 4e-3, 0.3, 100.0, 1e30}) {
      CAPTURE(beta1);
      CAPTURE(momentum_decay);
      const NAdam rule{.lr = 1, .beta1 = beta1, .beta2 = 0, .momentum_decay = momentum_decay};
      double product = 1;
      for (int t = 1; t <= 5000; ++t) {
        const double mu = beta1 * (1 - 0.5 * std::pow(0.96, t * momentum_decay));
        const double next = beta1 * (1 - 0.5 * std::pow(0.96, (t + 1) * momentum_decay));
        product *= mu;
        if (t > 20 && t % 500 != 0) continue;
        const NAdam::Scalars scalars = rule.scalars(t);
        REQUIRE(scalars.gradient_size == doctest::Approx((1 - mu) / (1 - product)).epsilon(1e-6));
        REQUIRE(scalars.momentum_size == doctest::Approx(next / (1 - product * next)).epsilon(1e-6));
      }
    }
}

TEST_CASE("NAdam's scalars take no longer at the largest step number than at an early one") {
  for (const double momentum_decay : {0.0, 4e-3, 0.3, 1e30}) {
    const NAdam rule{.lr = 1, .beta1 = 1 - 0x1p-53, .momentum_decay = momentum_decay};
    const NAdam::Scalars last = rule.scalars(std::numeric_limits<index_t>::max());  // too many for a loop
    const double mu = rule.beta1 * (momentum_decay == 0 ? 0.5 : 1);
    CHECK(last.gradient_size == doctest::Approx(1 - mu).epsilon(1e-6));
    CHECK(last.momentum_size == doctest::Approx(mu).epsilon(1e-6));
  }
}

TEST_CASE("every setting of NAdam has the bits of the serial reference") {
  for (const double beta1 : {0.0, 0.9})
    for (const double weight_decay : {0.0, 0.1})
      for (const double momentum_decay : {4e-3, 0.5, 50.0})
        testing::check_same_as_reference(NAdam{.lr = 0.01,
                                               .beta1 = beta1,
                                               .beta2 = 0.98,
                                               .epsilon = 1e-6,
                                               .weight_decay = weight_decay,
                                               .momentum_decay = momentum_decay},
                                         {.kind = reference::Kind::nadam,
                                          .lr = 0.01,
                                          .beta1 = beta1,
                                          .beta2 = 0.98,
                                          .epsilon = 1e-6,
                                          .weight_decay = weight_decay,
                                          .momentum_decay = momentum_decay});
}

TEST_CASE("every hyperparameter of NAdam that is out of range is rejected with rule and field") {
  CHECK_NOTHROW(NAdam{}.validate());
  CHECK_NOTHROW(NAdam{.lr = 0, .beta1 = 0, .beta2 = 0, .epsilon = 0, .weight_decay = 0, .momentum_decay = 0}.validate());
  const auto refuses = [](double NAdam::*field, double value, const char* text) {
    NAdam rule;
    rule.*field = value;
    CHECK_THROWS_WITH_AS(rule.validate(), doctest::Contains(text), OptionError);
  };
  for (const double bad : {std::nan(""), -1e-9, HUGE_VAL, -HUGE_VAL, 1e39}) {
    CAPTURE(bad);
    refuses(&NAdam::lr, bad, "NAdam: lr must be in [0, 3.4e38], is ");
    refuses(&NAdam::beta1, bad, "NAdam: beta1 must be in [0, 1), is ");
    refuses(&NAdam::beta2, bad, "NAdam: beta2 must be in [0, 1), is ");
    refuses(&NAdam::epsilon, bad, "NAdam: epsilon must be in [0, 3.4e38], is ");
    refuses(&NAdam::weight_decay, bad, "NAdam: weight_decay must be in [0, 3.4e38], is ");
    refuses(&NAdam::momentum_decay, bad, "NAdam: momentum_decay must be in [0, 3.4e38], is ");
  }
  refuses(&NAdam::beta1, 1, "NAdam: beta1 must be in [0, 1), is 1");
  refuses(&NAdam::beta2, 1, "NAdam: beta2 must be in [0, 1), is 1");
}
