#include <doctest/doctest.h>

#include <string>
#include <vector>

#include <tessera/comm/local.hpp>
#include <tessera/comm/self.hpp>
#include <tessera/engine/composition.hpp>
#include <tessera/engine/step_decision.hpp>
#include <tessera/precision/precision.hpp>
#include <tessera/rule/sgd.hpp>
#include <tessera/stage/stage.hpp>

namespace tessera {
namespace {

Plan plan_for(int world, int groups) {
  Layout layout;
  layout.add_unit("a");
  for (int g = 0; g < groups; ++g) layout.add_tensor("w" + std::to_string(g), {4}, {.group = g});
  return make_plan(Sharding(layout, world, 1000), {}, footprint_of<Sgd, Stage1, Fp32>(AgreementWords::size(world)));
}

TEST_CASE("squares are summed exactly over ranks, and the first non-finite place is the smallest of any") {
  for (int world = 1; world <= 5; ++world)
    run_ranks(world, [&](Local& comm) {
      Host host;
      auto queue = comm.queue(Duration::seconds(10));
      StepDecision<Sgd, Host> decision(host, plan_for(world, 1), comm.rank(), world, {}, false);
      for (index_t step = 0; step < 3; ++step) {
        decision.begin({Sgd{}});
        SquareSum& mine = *decision.squares();
        mine.squares.add(0x1p60);
        mine.squares.add(0x1p-60);  // lost if the sum were a double
        if (comm.rank() == 0) mine.squares.add(0x1p7);
        if (step > 0) mine.first_non_finite = static_cast<std::uint64_t>(100 - comm.rank());
        decision.decide(queue, 42, step);
        ExactSum expected;
        for (int r = 0; r < world; ++r) expected.add(0x1p60), expected.add(0x1p-60);
        expected.add(0x1p7);
        const StepOutcome outcome = decision.outcome().get();
        CHECK(outcome.gradient_norm == gradient_norm(expected.value(), world));
        CHECK(outcome.first_non_finite == (step == 0 ? -1 : 100 - (world - 1)));
        CHECK(outcome.applied == (step == 0));
        CHECK(outcome.steps == 1);
      }
    });
}

TEST_CASE("one rank that did something else makes all throw the same, once") {
  for (const bool other_rule : {false, true}) {
    std::vector<std::string> errors(3);
    run_ranks(3, [&](Local& comm) {
      Host host;
      auto queue = comm.queue(Duration::seconds(10));
      StepDecision<Sgd, Host> decision(host, plan_for(3, 2), comm.rank(), 3, {}, false);
      const bool differs = comm.rank() == 2;
      decision.begin({Sgd{}, Sgd{.lr = differs && other_rule ? 0.5 : 0.25}});
      try {
        decision.decide(queue, differs && !other_rule ? 7 : 8, 4);
      } catch (const AgreementError& error) {
        errors[comm.rank()] = error.what();
      }
      CHECK_FALSE(decision.outcome().get().applied);
      CHECK(decision.outcome().get().steps == 0);
      decision.begin({Sgd{}, Sgd{}});
      decision.decide(queue, 8, 5);
      CHECK(decision.outcome().get().applied);
    });
    CHECK(errors[0].find("step 4: rank 2 did not do what rank 0 did") == 0);
    CHECK(errors[1] == errors[0]);
    CHECK(errors[2] == errors[0]);
  }
}

TEST_CASE("a group's rule stands beside what it makes of the step that comes") {
  Self self;
  Host host;
  auto queue = self.queue(Duration::seconds(1));
  StepDecision<Sgd, Host> decision(host, plan_for(1, 2), 0, 1, {}, false);
  decision.begin({Sgd{.lr = 0.5}, Sgd{.momentum = 0.5}});
  CHECK(decision.rule(0)->scalars.lr == 0.5f);
  CHECK(decision.rule(1)->scalars.keep == 0);  // the first step has nothing to keep
  decision.decide(queue, 0, 0);
  decision.begin({Sgd{.lr = 0.5}, Sgd{.momentum = 0.5}});
  CHECK(decision.rule(1)->scalars.keep == 0.5f);
}

}  // namespace
}  // namespace tessera
