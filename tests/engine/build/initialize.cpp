#include <doctest/doctest.h>

#include <chrono>
#include <map>
#include <utility>
#include <vector>

#include <tessera/comm/self.hpp>
#include <tessera/engine/build/composition.hpp>
#include <tessera/engine/build/initialize.hpp>
#include <tessera/engine/memory/optimizer_state.hpp>
#include <tessera/engine/memory/whole_parameters.hpp>
#include <tessera/engine/step/step_decision.hpp>
#include <tessera/precision/precision.hpp>
#include <tessera/rule/adam.hpp>
#include <tessera/stage/stage.hpp>

namespace tessera::engine {
namespace {

TEST_CASE("each weight is computed once, and parameter and master weight get the same value") {
  Layout layout;
  layout.add_unit("a");
  layout.add_tensor("w", {100});
  layout.add_tensor("frozen", {3}, {.frozen = true});
  const Sharding sharding(layout, 1, 1000);
  Self self;
  Host host;
  auto queue = self.queue(std::chrono::seconds(1));
  const Plan plan = layout::make_plan(sharding, {}, footprint_of<Adam, Stage1, Bf16>());
  WholeParameters<Self, bfloat16, true> parameters(sharding, 0, host, queue, plan, {}, {});
  StepDecision<Adam, Host> decision(host, plan, 0, 1, layout.units(), {}, false);
  OptimizerState<Adam, Stage1, Bf16, Host, StepDecision<Adam, Host>> state(sharding, 0, host, plan, decision, 0);

  std::map<std::pair<int, index_t>, int> asked;
  int count = 0;
  auto value = [&](Tensor t, index_t i) {
    ++asked[{t.index, i}];
    return 1 + 1e-3f * static_cast<float>(++count);  // deliberately not a function of its arguments
  };
  initialize(sharding, host, parameters, state, value);
  CHECK(asked.size() == 103);
  for (const auto& [element, times] : asked) CHECK(times == 1);
  for (index_t i = 0; i < 100; ++i)
    CHECK(static_cast<float>(*parameters.array().at(0, i)) ==
          static_cast<float>(bfloat16(state.kept(0, i, parameters.array()).load(0))));
  CHECK(static_cast<float>(*parameters.array().at(1, layout.frozen_begin() + 2)) > 1);
}

TEST_CASE("a rank gets the weights of all elements that it holds, also of those that it does not update") {
  Layout layout;
  layout.add_unit("a");
  layout.add_tensor("v", {30});
  layout.add_tensor("w", {200});
  const Sharding sharding(layout, 3, 1000);
  Self self;
  Host host;
  auto queue = self.queue(std::chrono::seconds(1));
  const Plan plan = layout::make_plan(sharding, {}, footprint_of<Adam, Stage1, Bf16>());
  for (int rank = 0; rank < 3; ++rank) {
    WholeParameters<Self, bfloat16, true> parameters(sharding, rank, host, queue, plan, {}, {});
    StepDecision<Adam, Host> decision(host, plan, 0, 1, layout.units(), {}, false);
    OptimizerState<Adam, Stage1, Bf16, Host, StepDecision<Adam, Host>> state(sharding, rank, host, plan, decision, 0);
    auto value = [](Tensor t, index_t i) { return static_cast<float>(i + 1000 * t.index); };
    initialize(sharding, host, parameters, state, value);
    for (const Tensor t : layout.tensors())
      for (index_t i = 0; i < layout.elements(t); ++i)
        CHECK(parameters.array().at(0, layout.offset(t) + i)->bits == bfloat16(value(t, i)).bits);
    const Range updated = state.updated(0);
    for (index_t i = updated.begin; i < updated.end; ++i) {
      const bool first = i < 30;
      CHECK(state.kept(0, i, parameters.array()).load(0) == value(Tensor{first ? 0 : 1}, first ? i : i - 30));
    }
  }
}

}  // namespace
}  // namespace tessera::engine
