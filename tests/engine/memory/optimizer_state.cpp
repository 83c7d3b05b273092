#include <doctest/doctest.h>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include <tessera/comm/self.hpp>
#include <tessera/engine/build/composition.hpp>
#include <tessera/engine/memory/optimizer_state.hpp>
#include <tessera/engine/step/step_decision.hpp>
#include <tessera/exec/host.hpp>
#include <tessera/precision/precision.hpp>
#include <tessera/rule/adam.hpp>
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

template <class Stage, class Precision, class Rule = Sgd>
struct Fixture {
  explicit Fixture(const Layout& layout = two_groups()) : sharding(layout, 2, 1'000'000) {}

  Sharding sharding;
  Host host;
  Self self;
  Self::Queue queue = self.queue(std::chrono::seconds(1));
  Plan plan = layout::make_plan(sharding, {}, footprint_of<Rule, Stage, Precision>());
  StepDecision<Rule, Host> decision{host, plan, 0, 1, sharding.layout().units(), {}, false};
  OptimizerState<Rule, Stage, Precision, Host, StepDecision<Rule, Host>> state{sharding, 1, host, plan, decision, 0};
  std::size_t elements = static_cast<std::size_t>(sharding.layout().trainable_elements());
  Flat<typename Precision::Parameter> parameters{std::vector(elements, typename Precision::Parameter(1.0f))};
  Flat<typename Precision::Reduction> gradients{std::vector(elements, typename Precision::Reduction(4.0f))};

  void step(const std::vector<Rule>& rules, bool finite = true) {
    step(rules, finite, [](Unit) { return false; });
  }
  template <class Absent>
  void step(const std::vector<Rule>& rules, bool finite, Absent absent, std::uint64_t absent_ranks = 0) {
    decision.begin(rules);
    if (!finite) decision.squares()->first_non_finite = 0;
    decision.decide(queue, {.micro_batches = 1, .clip_norm = 1e30}, 1, rules, [](Unit) { return false; }, 0);
    const int units = sharding.layout().units();
    for (int u = 0; u < units; ++u)
      if (absent_ranks > 0 && absent(Unit{u})) AgreementWords{decision.room().data(), 1, units}.absent(u) = absent_ranks;
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

TEST_CASE("a unit without a gradient on this rank is updated once, and not at all if no rank has one") {
  Layout layout;
  for (const char* name : {"a", "b", "c"}) {
    layout.add_unit(name);
    layout.add_tensor("w", {64});  // one segment for all three
  }
  for (const std::uint64_t ranks : {1, 2}) {
    Fixture<Stage0, Fp32> f(layout);
    f.step({Sgd{.lr = 1}}, true, [](Unit u) { return u.index == 1; }, ranks);
    for (index_t i = 0; i < 192; ++i)
      CHECK(f.parameters.values[i] == (i / 64 == 1 && ranks == 2 ? 1.0f : -3.0f));  // 1 - 4
  }
}

TEST_CASE("each float of the state has an array of its own, with the rule's name for it") {
  Fixture<Stage1, Fp32, Adam> f;
  f.step({Adam{}, Adam{.beta1 = 0.5, .beta2 = 0.75}});
  std::string names;
  f.state.for_each_array(false, [&](const char* name, const auto& array) {
    names += std::string(name) + " ";
    const float expected = std::string(name) == "exp_avg" ? 2 : 4;  // 0.5 * 4, 0.25 * 4^2
    CHECK(array.owned_span(0).size() == 22);
    for (const float value : array.owned_span(0)) CHECK(value == expected);
  });
  CHECK(names == "exp_avg exp_avg_sq ");
}

TEST_CASE("stochastic rounding has other random bits in every step and for every seed, and the same for both equal") {
  const auto rounded = [](int steps, std::uint64_t seed) {
    Fixture<Stage0, Bf16Stochastic> f;
    f.state.set_seed(seed);
    std::vector<std::uint16_t> bits;
    for (int step = 0; step < steps; ++step) {
      f.parameters.values.assign(f.elements, bfloat16(1.0f));
      f.step({Sgd{}, Sgd{}});  // to 0.996, between two parameters
    }
    for (const bfloat16 parameter : f.parameters.values) bits.push_back(parameter.bits);
    return bits;
  };
  CHECK(rounded(1, 0) == rounded(1, 0));
  CHECK(rounded(1, 0) != rounded(2, 0));
  CHECK(rounded(1, 0) != rounded(1, 1));
}

}  // namespace
}  // namespace tessera::engine
