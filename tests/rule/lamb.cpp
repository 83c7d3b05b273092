#include <doctest/doctest.h>

#include <cmath>
#include <cstdint>
#include <vector>

#include "rule/same_as_reference.hpp"
#include <tessera/rule/lamb.hpp>

using namespace tessera;

static_assert(UpdateRule<Lamb> && NeedsTensorNorms<Lamb>);

TEST_CASE("Lamb's step has the direction of Adam's step and the length lr times the norm of the weights") {
  const Lamb rule{.lr = 0.25, .epsilon = 0};
  Lamb::State state{};
  const Lamb::Scalars scalars = rule.scalars(1);
  CHECK(rule.norm_input(3, 8, state, scalars) == doctest::Approx(1));  // the direction of Adam's first step is the sign
  CHECK(rule(3, 8, state, rule.with_trust_ratio(scalars, 6, 2)) == doctest::Approx(3 - 0.25 * 6 / 2));
}

TEST_CASE("if the norm of weights or direction is 0, Lamb's trust ratio is 1") {
  const Lamb rule{.lr = 0.25};
  CHECK(rule.with_trust_ratio(rule.scalars(1), 0, 2).step_size == 0.25f);
  CHECK(rule.with_trust_ratio(rule.scalars(1), 2, 0).step_size == 0.25f);
}

TEST_CASE("Lamb follows algorithm 2 of You et al. in float64 for 100 steps") {
  for (const double weight_decay : {0.0, 0.1}) {
    constexpr int elements = 16;
    const Lamb rule{.lr = 0.01, .weight_decay = weight_decay};
    std::vector<float> weight(elements);
    std::vector<Lamb::State> state(elements);
    std::vector<double> expected(elements), m(elements), v(elements);
    for (int i = 0; i < elements; ++i) expected[i] = weight[i] = testing::uniform(3, static_cast<std::uint64_t>(i));
    for (int t = 1; t <= 100; ++t) {
      std::vector<float> g(elements);
      std::vector<double> r(elements);
      double w2 = 0, r2 = 0, ours_w2 = 0, ours_r2 = 0;
      for (int i = 0; i < elements; ++i) {
        g[i] = testing::uniform(4, static_cast<std::uint64_t>(i), static_cast<std::uint64_t>(t));
        m[i] = 0.9 * m[i] + 0.1 * g[i];
        v[i] = 0.999 * v[i] + 0.001 * g[i] * g[i];
        r[i] = m[i] / (1 - std::pow(0.9, t)) / (std::sqrt(v[i] / (1 - std::pow(0.999, t))) + 1e-6) +
               weight_decay * expected[i];
        w2 += expected[i] * expected[i], r2 += r[i] * r[i];
        const double ours = rule.norm_input(weight[i], g[i], state[i], rule.scalars(t));
        ours_w2 += static_cast<double>(weight[i]) * weight[i], ours_r2 += ours * ours;
      }
      const Lamb::Scalars adapted = rule.with_trust_ratio(rule.scalars(t), std::sqrt(ours_w2), std::sqrt(ours_r2));
      for (int i = 0; i < elements; ++i) {
        expected[i] -= 0.01 * std::sqrt(w2 / r2) * r[i];
        weight[i] = rule(weight[i], g[i], state[i], adapted);
      }
    }
    for (int i = 0; i < elements; ++i) CHECK(std::fabs(weight[i] - expected[i]) <= 32 * std::ldexp(1.0, -23));
  }
}

TEST_CASE("every hyperparameter of Lamb that is out of range is rejected with rule and field") {
  CHECK_NOTHROW(Lamb{}.validate());
  const auto refuses = [](double Lamb::*field, double value, const char* text) {
    Lamb rule;
    rule.*field = value;
    CHECK_THROWS_WITH_AS(rule.validate(), doctest::Contains(text), OptionError);
  };
  for (const double bad : {std::nan(""), -1e-9, HUGE_VAL, -HUGE_VAL, 1e39}) {
    CAPTURE(bad);
    refuses(&Lamb::lr, bad, "Lamb: lr must be in [0, 3.4e38], is ");
    refuses(&Lamb::beta1, bad, "Lamb: beta1 must be in [0, 1), is ");
    refuses(&Lamb::beta2, bad, "Lamb: beta2 must be in [0, 1), is ");
    refuses(&Lamb::epsilon, bad, "Lamb: epsilon must be in [0, 3.4e38], is ");
    refuses(&Lamb::weight_decay, bad, "Lamb: weight_decay must be in [0, 3.4e38], is ");
  }
  refuses(&Lamb::beta1, 1, "Lamb: beta1 must be in [0, 1), is 1");
}
