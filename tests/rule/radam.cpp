#include <doctest/doctest.h>

#include <cmath>
#include <limits>

#include "rule/same_as_reference.hpp"
#include <tessera/rule/radam.hpp>

using namespace tessera;

static_assert(UpdateRule<RAdam>);

TEST_CASE("RAdam's first steps use the momentum only, whatever the size of the squared gradients") {
  const RAdam rule{.lr = 0.5, .epsilon = 1};
  for (int t = 1; t <= 5; ++t) {
    CAPTURE(t);
    RAdam::State state{.exp_avg = 0.0f, .exp_avg_sq = 100.0f};
    const double m = 0.1 * 3;
    CHECK(rule(1.0f, 3.0f, state, rule.scalars(t)) == doctest::Approx(1 - 0.5 * m / (1 - std::pow(0.9, t))));
    CHECK(state.exp_avg_sq == doctest::Approx(99.9 + 0.001 * 9));
  }
}

TEST_CASE("with the default beta2 RAdam rectifies from step 6 on, and after many steps equals Adam") {
  const RAdam rule{.lr = 0.5, .epsilon = 0.25};
  CHECK(rule.scalars(5).root == 0.0f);
  CHECK(rule.scalars(5).plain == 1.0f);
  for (const index_t t : {index_t{6}, index_t{100}, std::numeric_limits<index_t>::max()}) {
    CHECK(rule.scalars(t).root == 1.0f);
    CHECK(rule.scalars(t).plain == 0.25f);
  }
  CHECK(rule.scalars(6).step_size < 0.01f);
  CHECK(rule.scalars(std::numeric_limits<index_t>::max()).step_size == doctest::Approx(0.5));
}

TEST_CASE("with a small beta2 RAdam never rectifies") {
  for (const double beta2 : {0.0, 0.5, 2.0 / 3}) {
    const RAdam rule{.beta2 = beta2};
    for (const index_t t : {1, 2, 10, 1000, 1000000}) CHECK(rule.scalars(t).root == 0.0f);
  }
}

TEST_CASE("RAdam's momentum steps need no epsilon for elements without a gradient so far") {
  const RAdam rule{.epsilon = 0};
  RAdam::State state{};
  CHECK(rule(1.0f, 0.0f, state, rule.scalars(1)) == 1.0f);
}

TEST_CASE("weight decay of RAdam is added to the gradient") {
  const RAdam rule{.lr = 0.1, .weight_decay = 0.5};
  RAdam::State state{};
  CHECK(rule(2.0f, 1.0f, state, rule.scalars(1)) == doctest::Approx(2 - 0.1 * 2));
  CHECK(state.exp_avg == doctest::Approx(0.2));
}

TEST_CASE("every setting of RAdam has the bits of the serial reference") {
  for (const double beta1 : {0.0, 0.9})
    for (const double weight_decay : {0.0, 0.1})
      testing::check_same_as_reference(
          RAdam{.lr = 0.01, .beta1 = beta1, .beta2 = 0.98, .epsilon = 1e-6, .weight_decay = weight_decay},
          {.kind = reference::Kind::radam,
           .lr = 0.01,
           .beta1 = beta1,
           .beta2 = 0.98,
           .epsilon = 1e-6,
           .weight_decay = weight_decay});
}

TEST_CASE("every hyperparameter of RAdam that is out of range is rejected with rule and field") {
  CHECK_NOTHROW(RAdam{}.validate());
  CHECK_NOTHROW(RAdam{.lr = 0, .beta1 = 0, .beta2 = 0, .epsilon = 0, .weight_decay = 0}.validate());
  const auto refuses = [](double RAdam::*field, double value, const char* text) {
    RAdam rule;
    rule.*field = value;
    CHECK_THROWS_WITH_AS(rule.validate(), doctest::Contains(text), OptionError);
  };
  for (const double bad : {std::nan(""), -1e-9, HUGE_VAL, -HUGE_VAL, 1e39}) {
    CAPTURE(bad);
    refuses(&RAdam::lr, bad, "RAdam: lr must be in [0, 3.4e38], is ");
    refuses(&RAdam::beta1, bad, "RAdam: beta1 must be in [0, 1), is ");
    refuses(&RAdam::beta2, bad, "RAdam: beta2 must be in [0, 1), is ");
    refuses(&RAdam::epsilon, bad, "RAdam: epsilon must be in [0, 3.4e38], is ");
    refuses(&RAdam::weight_decay, bad, "RAdam: weight_decay must be in [0, 3.4e38], is ");
  }
  refuses(&RAdam::beta1, 1, "RAdam: beta1 must be in [0, 1), is 1");
  refuses(&RAdam::beta2, 1, "RAdam: beta2 must be in [0, 1), is 1");
}
