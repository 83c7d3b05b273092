#include <doctest/doctest.h>

#include <chrono>
#include <cstddef>
#include <string>
#include <vector>

#include <tessera/comm/self.hpp>
#include <tessera/engine/build/composition.hpp>
#include <tessera/engine/memory/optimizer_state.hpp>
#include <tessera/engine/step/step_decision.hpp>
#include <tessera/exec/host.hpp>
#include <tessera/precision/precision.hpp>
#include <tessera/rule/sgd.hpp>
#include <tessera/stage/stage.hpp>

namespace tessera::engine {
namespace {

Layout two_groups() {
  Layout layout;
  layout.add_unit("a");
  layout.add_tensor("w", {100});
  layout.add_tensor("b", {50}, {.group = 1});
  return layout;
}

// Parameters and gradients as arrays over the whole flat space.
template <class T>
struct Flat {
  mutable std::vector<T> values;
  T* at(int, index_t place) const { return values.data() + place; }
};

template <class Stage, class Precision>
struct Fixture {
  explicit Fixture(const Layout& layout = two_groups()) : sharding(layout, 2, 1'000'000) {}

  Sharding sharding;
  Host host;
  Self self;
  Self::Queue queue = self.queue(std::chrono::seconds(1));
  Plan plan = layout::make_plan(sharding, {}, footprint_of<Sgd, Stage, Precision>());
  StepDecision<Sgd, Host> decision{host, plan, 0, 1, sharding.layout().units(), {}, false};
  OptimizerState<Sgd, Stage, Precision, Host, StepDecision<Sgd, Host>> state{sharding, 1, host, plan, decision, 0};
  std::size_t elements = static_cast<std::size_t>(sharding.layout().trainable_elements());
  Flat<typename Precision::Parameter> parameters{std::vector(elements, typename Precision::Parameter(1.0f))};
  Flat<typename Precision::Reduction> gradients{std::vector(elements, typename Precision::Reduction(4.0f))};

  void step(const std::vector<Sgd>& rules, bool finite = true) {
    step(rules, finite, [](Unit) { return false; });
  }
  template <class Absent>
  void step(const std::vector<Sgd>& rules, bool finite, Absent absent) {
    decision.begin(rules);
    if (!finite) decision.squares()->first_non_finite = 0;
    decision.decide(queue, {.micro_batches = 1, .clip_norm = 1e30}, 1, rules, [](Unit) { return false; }, 0);
    state.update(0, gradients, parameters, absent);
  }
};

TEST_CASE("with sharded state a rank updates its part, each group with its rule, and nothing else") {
  Fixture<Stage1, Fp32> f;
  CHECK(f.state.updated(0) == Range{128, 150});
  f.step({Sgd{.lr = 1}, Sgd{.lr = 0.5}});
  for (index_t i = 0; i < 150; ++i) CHECK(f.parameters.values[i] == (i < 128 ? 1.0f : -1.0f));  // 1 - 0.5 * 4
}

TEST_CASE("with replicated state a rank updates everything") {
  Fixture<Stage0, Fp32> f;
  f.step({Sgd{.lr = 1}, Sgd{.lr = 0.5}});
  for (index_t i = 0; i < 150; ++i) CHECK(f.parameters.values[i] == (i < 100 ? -3.0f : -1.0f));
}

TEST_CASE("a master weight starts from the parameter and keeps the bits that the parameter's rounding loses") {
  Fixture<Stage1, Bf16> f;
  f.state.start_from(f.parameters);
  CHECK(f.state.kept(0, 130, f.parameters).load(0) == 1.0f);
  f.step({Sgd{}, Sgd{.lr = 1e-4}});
  CHECK(static_cast<float>(f.parameters.values[130]) == 1.0f);
  CHECK(f.state.kept(0, 130, f.parameters).load(0) == doctest::Approx(1 - 4e-4).epsilon(1e-6));
}

TEST_CASE("a step that is not applied changes nothing") {
  Fixture<Stage0, Fp32> f;
  f.step({Sgd{}, Sgd{}}, false);
  for (const float weight : f.parameters.values) CHECK(weight == 1);
}

TEST_CASE("an update checks each unit once for absence, however many units a bucket has") {
  for (const int units : {10, 1000}) {
    Layout layout;
    for (int u = 0; u < units; ++u) {
      layout.add_unit("u" + std::to_string(u));
      layout.add_tensor("w", {u % 3 == 0 ? 64 : 5});  // some merge with the next one into one segment
    }
    Fixture<Stage0, Fp32> f(layout);
    REQUIRE(f.sharding.buckets() == 1);
    int questions = 0;
    f.step({Sgd{}}, true, [&](Unit) { return ++questions, false; });
    CHECK(questions == units);
  }
}

}  // namespace
}  // namespace tessera::engine
