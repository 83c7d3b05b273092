#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <fstream>
#include <map>
#include <sstream>
#include <string>
#include <vector>

#include <tessera/rule/schedule.hpp>
#include <tessera/rule/schedule_free_adamw.hpp>
#include <tessera/rule/scheduled.hpp>
#include "rule/pytorch_gradient.hpp"
#include "rule/same_as_reference.hpp"

using namespace tessera;

static_assert(UpdateRule<ScheduleFreeAdamW> && HasEvaluationWeights<ScheduleFreeAdamW>);
static_assert(ChecksChange<ScheduleFreeAdamW> && !ChecksChange<AdamW>);

using Variant = ScheduleFreeAdamW::Variant;

TEST_CASE("after ScheduleFreeAdamW's first step the trained and the evaluated weight are equal") {
  const ScheduleFreeAdamW rule{.lr = 0.5, .beta1 = 0.5, .beta2 = 0.75, .epsilon = 0};
  ScheduleFreeAdamW::State state{};
  // gamma = 0.5 sqrt(0.25), sqrt(v) = sqrt(0.25) 4
  CHECK(rule(1.0f, 4.0f, state, rule.scalars(1)) == doctest::Approx(0.5));
  CHECK(rule.to_evaluation(0.5f, state) == doctest::Approx(0.5));
}

TEST_CASE("the evaluated weight is the trained weight minus (1 - beta1) ahead") {
  const ScheduleFreeAdamW rule{.beta1 = 0.75};
  const ScheduleFreeAdamW::State state{.ahead = 8, .exp_avg_sq = 1};
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
            weight = rule(weight, gradient, state, rule.scalars(t));
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

namespace {

struct PackageWeights {
  int step;
  std::string kind;  // trained or evaluated
  std::vector<double> of;
};
struct PackageCase {
  std::string title;
  ScheduleFreeAdamW rule{.variant = Variant::package};
  std::vector<PackageWeights> weights;
};

const std::map<std::string, double ScheduleFreeAdamW::*> fields{{"lr", &ScheduleFreeAdamW::lr},
                                                                {"beta1", &ScheduleFreeAdamW::beta1},
                                                                {"beta2", &ScheduleFreeAdamW::beta2},
                                                                {"epsilon", &ScheduleFreeAdamW::epsilon},
                                                                {"weight_decay", &ScheduleFreeAdamW::weight_decay}};

// Reads the cases that schedule_free.py has written.
std::vector<PackageCase> package_cases() {
  std::ifstream file(TESSERA_SOURCE_DIR "/tests/rule/schedule_free.txt");
  std::vector<PackageCase> cases;
  for (std::string line; std::getline(file, line);) {
    std::istringstream words(line);
    std::string word;
    words >> word;
    if (word == "case") {
      PackageCase& now = cases.emplace_back();
      now.title = line;
      while (words >> word) {
        const auto equals = word.find('=');
        const std::string field = word.substr(0, equals);
        const double value = std::strtod(word.c_str() + equals + 1, nullptr);
        if (field == "warmup_steps")
          now.rule.warmup_steps = static_cast<index_t>(value);
        else
          now.rule.*fields.at(field) = value;
      }
    } else if (word != "#") {
      PackageWeights& weights = cases.back().weights.emplace_back(PackageWeights{std::stoi(word), "", {}});
      words >> weights.kind;
      while (words >> word) weights.of.push_back(std::strtod(word.c_str(), nullptr));
      REQUIRE(weights.of.size() == 16);
    }
  }
  return cases;
}

}  // namespace

TEST_CASE("the package variant follows its authors' AdamWScheduleFree for 100 steps, trained and evaluated weights") {
  int seen = 0;
  for (const PackageCase& one : package_cases()) {
    CAPTURE(one.title);
    double worst = 0;
    for (std::uint32_t i = 0; i < 16; ++i) {
      float weight = testing::pytorch_gradient(0, i);
      ScheduleFreeAdamW::State state{};
      for (std::uint32_t t = 1; t <= 100; ++t) {
        weight = one.rule(weight, testing::pytorch_gradient(t, i), state, one.rule.scalars(t));
        for (const PackageWeights& expected : one.weights) {
          if (expected.step != static_cast<int>(t)) continue;
          const float found = expected.kind == "trained" ? weight : one.rule.to_evaluation(weight, state);
          worst = std::max(worst, std::fabs(found - expected.of[i]));
          ++seen;
        }
      }
    }
    CHECK(worst <= 16 * std::ldexp(1.0, -24));
    MESSAGE(one.title << ": off by " << worst * std::ldexp(1.0, 24) << " units of 2^-24 at most");
  }
  CHECK(seen == 7 * 3 * 2 * 16);
}

TEST_CASE("every setting of ScheduleFreeAdamW has the bits of the serial reference") {
  for (const double beta1 : {0.0, 0.9})
    for (const int warmup : {0, 20})
      for (const Variant variant : {Variant::paper, Variant::package})
        testing::check_same_as_reference(ScheduleFreeAdamW{.lr = 0.01,
                                                           .beta1 = beta1,
                                                           .beta2 = 0.98,
                                                           .epsilon = 1e-6,
                                                           .weight_decay = 0.1,
                                                           .warmup_steps = warmup,
                                                           .variant = variant},
                                         {.kind = reference::Kind::schedule_free,
                                          .lr = 0.01,
                                          .beta1 = beta1,
                                          .beta2 = 0.98,
                                          .epsilon = 1e-6,
                                          .weight_decay = 0.1,
                                          .warmup_steps = warmup,
                                          .package = variant == Variant::package});
}

TEST_CASE("a change of lr weights the average as if the new lr had been used from the start") {
  ScheduleFreeAdamW rule{.lr = 0.01};
  float weight = 0.5f;
  ScheduleFreeAdamW::State state{};
  double x = weight, z = weight, v = 0, sum = 0;
  for (int t = 1; t <= 20; ++t) {
    if (t == 11) {
      rule.lr = 0.04;
      rule.validate_change(ScheduleFreeAdamW{.lr = 0.01});
      sum *= 16;
    }
    const float gradient = testing::uniform(5, static_cast<std::uint64_t>(t));
    weight = rule(weight, gradient, state, rule.scalars(t));
    const double gamma = rule.lr * std::sqrt(1 - std::pow(0.999, t));
    v = 0.999 * v + (1 - 0.999) * gradient * gradient;
    z -= gamma * gradient / (std::sqrt(v) + 1e-8);
    sum += gamma * gamma;
    x += gamma * gamma / sum * (z - x);
  }
  CHECK(std::fabs(rule.to_evaluation(weight, state) - x) <= std::ldexp(1.0, -22));
}

TEST_CASE("a beta1 that differs from construction is rejected with both values, also inside a scheduled rule") {
  const ScheduleFreeAdamW first;
  ScheduleFreeAdamW rule = first;
  CHECK_NOTHROW(rule.validate_change(first));
  rule.beta1 = 0.5;
  CHECK_THROWS_WITH_AS(
      rule.validate_change(first),
      "ScheduleFreeAdamW: beta1 is 0.5, was 0.9 when the optimizer was built: the state depends on it, so "
      "it must not change",
      OptionError);
  struct Particular : AdamW {
    void validate_change(const Particular& before) const { require_unchanged("Particular", "beta1", beta1, before.beta1); }
  };
  using Changing = Scheduled<Particular, ConstantSchedule>;
  static_assert(ChecksChange<Changing> && !ChecksChange<Scheduled<AdamW, ConstantSchedule>>);
  Changing changing;
  changing.rule.beta1 = 0.5;
  CHECK_THROWS_WITH_AS(changing.validate_change(Changing{}), doctest::Contains("Particular: beta1 is 0.5"), OptionError);
}

TEST_CASE(
    "every hyperparameter of ScheduleFreeAdamW that is out of range is rejected with rule and field") {
  CHECK_NOTHROW(ScheduleFreeAdamW{}.validate());
  CHECK_NOTHROW(ScheduleFreeAdamW{.lr = 0, .beta1 = 0, .beta2 = 0, .epsilon = 0}.validate());
  const auto refuses = [](double ScheduleFreeAdamW::*field, double value, const char* text) {
    ScheduleFreeAdamW rule;
    rule.*field = value;
    CHECK_THROWS_WITH_AS(rule.validate(), doctest::Contains(text), OptionError);
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
    CHECK_THROWS_WITH_AS(ScheduleFreeAdamW{.warmup_steps = bad}.validate(),
                         doctest::Contains("ScheduleFreeAdamW: warmup_steps must be in [0, 1e6], is "), OptionError);
}
