#include <doctest/doctest.h>

#include <chrono>
#include <string>
#include <vector>

#include <tessera/comm/local/local.hpp>
#include <tessera/comm/self.hpp>
#include <tessera/engine/build/composition.hpp>
#include <tessera/engine/step/step_decision.hpp>
#include <tessera/precision/precision.hpp>
#include <tessera/rule/sgd.hpp>
#include <tessera/stage/stage.hpp>

namespace tessera::engine {
namespace {

Plan plan_for(int world, int groups) {
  Layout layout;
  layout.add_unit("a");
  for (int g = 0; g < groups; ++g) layout.add_tensor("w" + std::to_string(g), {4}, {.group = g});
  return layout::make_plan(Sharding(layout, world, 1000), {}, footprint_of<Sgd, Stage1, Fp32>());
}

StepSettings settings_of(int world) { return {.micro_batches = world, .clip_norm = 1e30, .evaluations = 0}; }

constexpr auto nothing_absent = [](Unit) { return false; };

TEST_CASE("squares are summed exactly over ranks, and the first non-finite place is the smallest of all ranks") {
  for (int world = 1; world <= 5; ++world)
    run_ranks(world, [&](Local& comm) {
      Host host;
      auto queue = comm.queue(std::chrono::seconds(10));
      StepDecision<Sgd, Host> decision(host, plan_for(world, 1), comm.rank(), world, 1, {}, false);
      for (index_t step = 0; step < 3; ++step) {
        const std::vector<Sgd> rules{Sgd{}};
        decision.begin(rules);
        SquareSum& mine = *decision.squares();
        mine.squares.add(0x1p60);
        mine.squares.add(0x1p-60);  // lost if the sum were a double
        if (comm.rank() == 0) mine.squares.add(0x1p7);
        if (step > 0) mine.first_non_finite = static_cast<std::uint64_t>(100 - comm.rank());
        decision.decide(queue, settings_of(world), world, rules, nothing_absent, step);
        ExactSum expected;
        for (int r = 0; r < world; ++r) expected.add(0x1p60), expected.add(0x1p-60);
        expected.add(0x1p7);
        const StepOutcome outcome = decision.outcome().get();
        if (step == 0) CHECK(outcome.gradient_norm == gradient_norm(expected.value(), world));
        CHECK(outcome.first_non_finite == (step == 0 ? -1 : 100 - (world - 1)));
        CHECK(outcome.applied == (step == 0));
        CHECK(outcome.steps == 1);
      }
    });
}

// The error of each of 3 ranks if rank 2 has other settings or rules, and whether they agree again afterwards.
std::vector<std::string> errors_where_rank_2_has(const StepSettings& other, const std::vector<Sgd>& other_rules) {
  std::vector<std::string> errors(3);
  run_ranks(3, [&](Local& comm) {
    Host host;
    auto queue = comm.queue(std::chrono::seconds(10));
    StepDecision<Sgd, Host> decision(host, plan_for(3, 2), comm.rank(), 3, 1, {}, false);
    const std::vector<Sgd> rules{Sgd{}, Sgd{}};
    const bool differs = comm.rank() == 2;
    decision.begin(differs ? other_rules : rules);
    try {
      decision.decide(queue, differs ? other : settings_of(3), 3, differs ? other_rules : rules, nothing_absent, 4);
    } catch (const AgreementError& error) {
      errors[comm.rank()] = error.what();
    }
    CHECK_FALSE(decision.outcome().get().applied);
    CHECK(decision.outcome().get().steps == 0);
    decision.begin(rules);
    decision.decide(queue, settings_of(3), 3, rules, nothing_absent, 5);
    CHECK(decision.outcome().get().applied);
  });
  return errors;
}

TEST_CASE("gradients are divided by the remaining divisor, which may be less than the step's micro-batches") {
  Self self;
  Host host;
  auto queue = self.queue(std::chrono::seconds(1));
  StepDecision<Sgd, Host> decision(host, plan_for(1, 1), 0, 1, 1, {}, false);
  const std::vector<Sgd> rules{Sgd{}};
  for (const int divisor : {4, 1}) {
    decision.begin(rules);
    decision.squares()->squares.add(64);
    decision.decide(queue, settings_of(4), divisor, rules, nothing_absent, divisor);
    CHECK(decision.outcome().get().gradient_norm == 8.0 / divisor);
    CHECK(decision.outcome().get().gradient_scale == 1.0f / static_cast<float>(divisor));
  }
}

TEST_CASE("if one rank has other settings, all throw the same error once, with the setting and both values") {
  const auto said = [](const StepSettings& other, const std::vector<Sgd>& rules, const std::string& what) {
    const auto errors = errors_where_rank_2_has(other, rules);
    INFO(errors[0]);
    CHECK(errors[0].find("step 4: ranks differ in " + what + "; nothing was applied") == 0);
    CHECK(errors[0].find("do the step again") != std::string::npos);
    CHECK(errors[1] == errors[0]);
    CHECK(errors[2] == errors[0]);
  };
  const std::vector<Sgd> rules{Sgd{}, Sgd{}};
  said({.micro_batches = 6, .clip_norm = 1e30}, rules, "the step's micro-batches: rank 0 has 3, rank 2 has 6");
  said({.micro_batches = 3, .clip_norm = 0.5}, rules, "Options::clip_norm: rank 0 has 1e+30, rank 2 has 0.5");
  said({.micro_batches = 3, .clip_norm = 1e30, .evaluations = 2}, rules,
       "calls of begin_evaluation() and end_evaluation(): rank 0 has 0, rank 2 has 2");
  said(settings_of(3), {Sgd{}, Sgd{.lr = 0.5}}, "Sgd.lr of group 1: rank 0 has 0.001, rank 2 has 0.5");
  said(settings_of(3), {Sgd{.lr = 1e-3f}, Sgd{}},
       "Sgd.lr of group 0: rank 0 has 0.001, rank 2 has 0.0010000000474974513");
  said(settings_of(3), {Sgd{.nesterov = true}, Sgd{}}, "Sgd.nesterov of group 0: rank 0 has 0, rank 2 has 1");
}

TEST_CASE("a unit is counted as absent once for every rank without a gradient of it") {
  run_ranks(3, [&](Local& comm) {
    Host host;
    auto queue = comm.queue(std::chrono::seconds(10));
    const std::vector<Sgd> rules{Sgd{}};
    StepDecision<Sgd, Host> decision(host, plan_for(3, 1), comm.rank(), 3, 1, {}, false);
    for (int absent = 0; absent <= 3; ++absent) {
      decision.begin(rules);
      decision.decide(queue, settings_of(3), 3, rules, [&](Unit) { return comm.rank() < absent; }, absent);
      CHECK(*decision.absent(Unit{0}) == static_cast<std::uint64_t>(absent));
    }
  });
}

TEST_CASE("a group's rule is stored together with its scalars for the next step") {
  Self self;
  Host host;
  auto queue = self.queue(std::chrono::seconds(1));
  StepDecision<Sgd, Host> decision(host, plan_for(1, 2), 0, 1, 1, {}, false);
  const std::vector<Sgd> rules{Sgd{.lr = 0.5}, Sgd{.momentum = 0.5}};
  decision.begin(rules);
  CHECK(decision.rule(0)->scalars.lr == 0.5f);
  CHECK(decision.rule(1)->scalars.keep == 0);  // the first step has no old momentum
  decision.decide(queue, settings_of(1), 1, rules, nothing_absent, 0);
  decision.begin(rules);
  CHECK(decision.rule(1)->scalars.keep == 0.5f);
}

TEST_CASE("the control state that one optimizer read makes another decide as it would") {
  Self self;
  Host host;
  auto queue = self.queue(std::chrono::seconds(1));
  const std::vector<Sgd> rules{Sgd{}};
  const Options options{.loss_scale = {.initial = 1024, .growth_interval = 2, .hysteresis = 3}};
  StepDecision<Sgd, Host> first(host, plan_for(1, 1), 0, 1, 1, options, true);
  const auto step = [&](auto& decision, bool finite) {
    decision.begin(rules);
    decision.squares()->squares.add(64);
    if (!finite) decision.squares()->first_non_finite = 5;
    decision.decide(queue, settings_of(1), 1, rules, nothing_absent, 0);
    return decision.outcome().get();
  };
  for (const bool finite : {true, false, true}) step(first, finite);
  ControlState<Sgd> state;
  first.read(state);
  CHECK(state.steps == 2);
  CHECK(state.loss_scale == 1024);
  CHECK(state.overflows_left == 2);
  CHECK(state.clean_steps == 1);

  StepDecision<Sgd, Host> second(host, plan_for(1, 1), 0, 1, 1, options, true);
  step(second, true);
  second.numbers()->first_non_finite_weight.place = 3;
  second.set(state);
  for (const bool finite : {false, false, true}) {
    const StepOutcome expected = step(first, finite), outcome = step(second, finite);
    CHECK(outcome.steps == expected.steps);
    CHECK(outcome.loss_scale == expected.loss_scale);
    CHECK(outcome.first_non_finite_weight == -1);
    CHECK(second.loss_scale() == first.loss_scale());
  }
  CHECK(second.loss_scale() == 512);
}

}  // namespace
}  // namespace tessera::engine
