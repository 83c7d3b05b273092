#include <doctest/doctest.h>

#include <vector>

#include <tessera/rule/adamw.hpp>
#include <tessera/rule/lamb.hpp>
#include <tessera/rule/lars.hpp>
#include <tessera/rule/schedule.hpp>
#include <tessera/rule/schedule_free_adamw.hpp>
#include <tessera/rule/scheduled.hpp>

#include "training.hpp"

namespace tessera {
namespace {

constexpr CosineSchedule schedule{.peak = 0.1, .warmup_steps = 2, .steps = 6};
constexpr int steps = 5;

template <class Rule>
std::vector<float> by_hand(const Rule& rule) {
  Self self;
  Sharded<Rule, Stage1, Fp32, Self> optimizer(self, testing::ragged_layout(), {}, {rule, rule});
  optimizer.initialize(testing::made_up_weight);
  for (int s = 0; s < steps; ++s) {
    testing::run_pass(optimizer, s, 0);
    for (const int group : {0, 1}) optimizer.rule(group).lr = schedule(optimizer.steps() + 1);
    static_cast<void>(optimizer.step());
  }
  return testing::parameters_of(optimizer);
}

template <class Rule>
std::vector<float> by_type(const Rule& rule) {
  using Changing = Scheduled<Rule, CosineSchedule>;
  Self self;
  Sharded<Changing, Stage1, Fp32, Self> optimizer(self, testing::ragged_layout(), {},
                                                  {Changing{rule, schedule}, Changing{rule, schedule}});
  optimizer.initialize(testing::made_up_weight);
  for (int s = 0; s < steps; ++s) {
    testing::run_pass(optimizer, s, 0);
    static_cast<void>(optimizer.step());
  }
  return testing::parameters_of(optimizer);
}

TEST_CASE_TEMPLATE("a scheduled rule equals a rule whose rate the caller sets before every step", Rule, AdamW, Lamb,
                   Lars) {
  CHECK(by_type(Rule{}) == by_hand(Rule{}));
}

TEST_CASE("what the rule or the schedule rejects is rejected, whatever the value of the unused lr") {
  CHECK_THROWS_WITH_AS((Scheduled<AdamW, CosineSchedule>{{.beta1 = 2}, schedule}.validate()), doctest::Contains("beta1"),
                       OptionError);
  CHECK_THROWS_WITH_AS((Scheduled<AdamW, CosineSchedule>{{}, {.peak = -1, .steps = 5}}.validate()),
                       doctest::Contains("peak"), OptionError);
  CHECK_NOTHROW((Scheduled<AdamW, CosineSchedule>{{.lr = -1}, schedule}.validate()));
}

static_assert(UpdateRule<Scheduled<AdamW, CosineSchedule>>);
static_assert(!NeedsTensorNorms<Scheduled<AdamW, CosineSchedule>>);
static_assert(NeedsTensorNorms<Scheduled<Lamb, ConstantSchedule>>);
static_assert(!HasLearningRate<ScheduleFreeAdamW>);

}  // namespace
}  // namespace tessera
