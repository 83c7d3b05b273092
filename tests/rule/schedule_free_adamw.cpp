#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>

#include <tessera/rule/schedule.hpp>
#include <tessera/rule/schedule_free_adamw.hpp>
#include <tessera/rule/scheduled.hpp>
#include "rule/same_as_reference.hpp"

using namespace tessera;

static_assert(UpdateRule<ScheduleFreeAdamW> && HasEvaluationWeights<ScheduleFreeAdamW>);
static_assert(ChecksChange<ScheduleFreeAdamW> && !ChecksChange<AdamW>);

TEST_CASE("ScheduleFreeAdamW's first step is its average: what is trained and what is evaluated are one") {
  const ScheduleFreeAdamW rule{.lr = 0.5, .beta1 = 0.5, .beta2 = 0.75, .epsilon = 0};
  ScheduleFreeAdamW::State state{};
  // gamma = 0.5 sqrt(0.25), sqrt(v) = sqrt(0.25) 4
  CHECK(rule(1.0f, 4.0f, state, rule.at(1)) == doctest::Approx(0.5));
  CHECK(rule.to_evaluation(0.5f, state) == doctest::Approx(0.5));
}

TEST_CASE("the weight that is evaluated lies 1 - beta1 of the way behind") {
  const ScheduleFreeAdamW rule{.beta1 = 0.75};
  const ScheduleFreeAdamW::State state{.ahead = 8, .v = 1};
  CHECK(rule.to_evaluation(5.0f, state) == 3.0f);
}

TEST_CASE("ScheduleFreeAdamW follows algorithm 1 of Defazio et al. in float64 for 100 steps") {
  for (const index_t warmup : {0, 1, 30})
    for (const double weight_decay : {0.0, 0.1})
      for (const double beta1 : {0.0, 0.9}) {
        CAPTURE(warmup);
        const ScheduleFreeAdamW rule{.lr = 0.01, .beta1 = beta1, .weight_decay = weight_decay, .warmup_steps = warmup};
        double worst = 0;
        for (std::uint64_t element = 0; element < 16; ++element) {
          float weight = testing::uniform(3, element);
          ScheduleFreeAdamW::State state{};
          double x = weight, z = weight, v = 0, sum = 0;
          for (int t = 1; t <= 100; ++t) {
            const float gradient = testing::uniform(4, element, static_cast<std::uint64_t>(t));
            weight = rule(weight, gradient, state, rule.at(t));
            const double y = (1 - beta1) * z + beta1 * x;
            v = 0.999 * v + (1 - 0.999) * gradient * gradient;
            const double gamma = 0.01 * std::sqrt(1 - std::pow(0.999, t)) *
                                 (warmup > 0 ? std::min(1.0, t / static_cast<double>(warmup)) : 1.0);
            z -= gamma * gradient / (std::sqrt(v) + 1e-8) + gamma * weight_decay * y;
            sum += gamma * gamma;
            x += gamma * gamma / sum * (z - x);
            worst = std::max({worst, std::fabs(weight - ((1 - beta1) * z + beta1 * x)),
                              std::fabs(rule.to_evaluation(weight, state) - x)});
          }
        }
        CHECK(worst <= 16 * std::ldexp(1.0, -24));
      }
}

TEST_CASE("every setting of ScheduleFreeAdamW has the bits of the serial reference") {
  for (const double beta1 : {0.0, 0.9})
    for (const int warmup : {0, 20})
      testing::check_same_as_reference(
          ScheduleFreeAdamW{
              .lr = 0.01, .beta1 = beta1, .beta2 = 0.98, .epsilon = 1e-6, .weight_decay = 0.1, .warmup_steps = warmup},
          {.kind = reference::Kind::schedule_free,
           .lr = 0.01,
           .beta1 = beta1,
           .beta2 = 0.98,
           .epsilon = 1e-6,
           .weight_decay = 0.1,
           .warmup_steps = warmup});
}

TEST_CASE("an lr that changes midway weights the average as if it had been so from the start") {
  ScheduleFreeAdamW rule{.lr = 0.01};
  float weight = 0.5f;
  ScheduleFreeAdamW::State state{};
  double x = weight, z = weight, v = 0, sum = 0;
  for (int t = 1; t <= 20; ++t) {
    if (t == 11) {
      rule.lr = 0.04;
      rule.check_change(ScheduleFreeAdamW{.lr = 0.01});
      sum *= 16;
    }
    const float gradient = testing::uniform(5, static_cast<std::uint64_t>(t));
    weight = rule(weight, gradient, state, rule.at(t));
    const double gamma = rule.lr * std::sqrt(1 - std::pow(0.999, t));
    v = 0.999 * v + (1 - 0.999) * gradient * gradient;
    z -= gamma * gradient / (std::sqrt(v) + 1e-8);
    sum += gamma * gamma;
    x += gamma * gamma / sum * (z - x);
  }
  CHECK(std::fabs(rule.to_evaluation(weight, state) - x) <= std::ldexp(1.0, -22));
}

TEST_CASE("a beta1 that is not that of construction is refused with both values, by a schedule's rule too") {
  const ScheduleFreeAdamW first;
  ScheduleFreeAdamW rule = first;
  CHECK_NOTHROW(rule.check_change(first));
  rule.beta1 = 0.5;
  CHECK_THROWS_WITH_AS(rule.check_change(first),
                       "ScheduleFreeAdamW: beta1 is 0.5, was 0.9 when the optimizer was built: the state depends on it, so "
                       "it must not change",
                       OptionError);
  struct Particular : AdamW {
    void check_change(const Particular& before) const { require_unchanged("Particular", "beta1", beta1, before.beta1); }
  };
  using Changing = Scheduled<Particular, ConstantSchedule>;
  static_assert(ChecksChange<Changing> && !ChecksChange<Scheduled<AdamW, ConstantSchedule>>);
  Changing changing;
  changing.rule.beta1 = 0.5;
  CHECK_THROWS_WITH_AS(changing.check_change(Changing{}), doctest::Contains("Particular: beta1 is 0.5"), OptionError);
}

TEST_CASE(
    "every hyperparameter of ScheduleFreeAdamW that is out of range is refused, with the names of rule and field") {
  CHECK_NOTHROW(ScheduleFreeAdamW{}.check());
  CHECK_NOTHROW(ScheduleFreeAdamW{.lr = 0, .beta1 = 0, .beta2 = 0, .epsilon = 0}.check());
  const auto refuses = [](double ScheduleFreeAdamW::*field, double value, const char* text) {
    ScheduleFreeAdamW rule;
    rule.*field = value;
    CHECK_THROWS_WITH_AS(rule.check(), doctest::Contains(text), OptionError);
  };
  for (const double bad : {std::nan(""), -1e-9, HUGE_VAL, -HUGE_VAL, 1e39}) {
    CAPTURE(bad);
    refuses(&ScheduleFreeAdamW::lr, bad, "ScheduleFreeAdamW: lr must be in [0, 3.4e38], is ");
    refuses(&ScheduleFreeAdamW::beta1, bad, "ScheduleFreeAdamW: beta1 must be in [0, 1), is ");
    refuses(&ScheduleFreeAdamW::beta2, bad, "ScheduleFreeAdamW: beta2 must be in [0, 1), is ");
    refuses(&ScheduleFreeAdamW::epsilon, bad, "ScheduleFreeAdamW: epsilon must be in [0, 3.4e38], is ");
    refuses(&ScheduleFreeAdamW::weight_decay, bad, "ScheduleFreeAdamW: weight_decay must be in [0, 3.4e38], is ");
  }
  refuses(&ScheduleFreeAdamW::beta1, 1, "ScheduleFreeAdamW: beta1 must be in [0, 1), is 1");
  for (const index_t bad : {index_t{-1}, index_t{1'000'001}})
    CHECK_THROWS_WITH_AS(ScheduleFreeAdamW{.warmup_steps = bad}.check(),
                         doctest::Contains("ScheduleFreeAdamW: warmup_steps must be in [0, 1e6], is "), OptionError);
}
