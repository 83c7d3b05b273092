#include <doctest/doctest.h>

#include <array>

#include <tessera/engine/kernels/step_update.hpp>
#include <tessera/rule/lamb.hpp>
#include <tessera/rule/sgd.hpp>

namespace tessera::engine {
namespace {

// One element of Sgd, whose step is decided after the update is enqueued.
struct Late {
  StepNumbers numbers{};
  StepRule<Sgd> rule{};
  float weight = 1, gradient = 3, momentum = 0;
  UpdateOfStep<Sgd, Fp32> update{};

  Late() {
    update.element.weight.parameter = &weight;
    update.element.gradient = &gradient;
    update.element.state[0] = &momentum;
    update.rule = &rule;
    update.numbers = &numbers;
    rule.rule.lr = 0.5f;
    rule.scalars = rule.rule.scalars(1);
    numbers.outcome.gradient_scale = 0.25f;
    numbers.outcome.applied = true;
  }
};

TEST_CASE("an update reads rule, scalars and scale when it runs") {
  Late late;
  late.rule.rule.lr = 2;
  late.rule.scalars = late.rule.rule.scalars(1);
  late.numbers.outcome.gradient_scale = 0.5f;
  REQUIRE(late.update.enabled());
  late.update.bind()(0);
  CHECK(late.weight == 1 - 2 * 0.5f * 3);
}

TEST_CASE("an update is disabled if the step is not applied, or if no rank has a gradient of the unit") {
  Late late;
  late.numbers.outcome.applied = false;
  CHECK(!late.update.enabled());
  late.numbers.outcome.applied = true;
  std::uint64_t absent = 1;
  late.update.absent = &absent;
  late.update.world = 2;
  CHECK(late.update.enabled());
  absent = 2;
  CHECK(!late.update.enabled());
}

TEST_CASE("a weight that becomes infinite is recorded in the step's numbers") {
  Late late;
  late.gradient = 3e38f;
  late.rule.rule.lr = 100;
  late.rule.scalars = late.rule.rule.scalars(1);
  late.update.element.weight.place = 70;
  const auto bound = late.update.bind();
  bound(0);
  bound.after(0, 1);
  CHECK(late.numbers.first_non_finite_weight.place == 70);
}

TEST_CASE("a rule that needs norms gets the trust ratio of its tensor's norms, once they are computed") {
  StepNumbers numbers;
  StepRule<Lamb> rule{Lamb{}, Lamb{}.scalars(1)};
  TensorNorm norm;
  norm.weights.add(36);
  norm.norm_input.add(4);
  norm.finish();
  UpdateOfStep<Lamb, Fp32> update;
  update.rule = &rule;
  update.numbers = &numbers;
  const auto before = update.bind().scalars;
  update.norm = &norm;
  const auto with_norms = update.bind().scalars;
  const auto expected = rule.rule.with_trust_ratio(rule.scalars, 6, 2);
  CHECK(bits_as<std::array<float, sizeof(expected) / sizeof(float)>>(with_norms) ==
        bits_as<std::array<float, sizeof(expected) / sizeof(float)>>(expected));
  CHECK(bits_as<std::array<float, sizeof(expected) / sizeof(float)>>(with_norms) !=
        bits_as<std::array<float, sizeof(expected) / sizeof(float)>>(before));
}

TEST_CASE("a stored weight starts as its parameter") {
  bfloat16 parameter(1.5f);
  float master = 0;
  precision::KeptWeight<bfloat16, float> kept;
  kept.parameter = &parameter;
  kept.master = &master;
  StartWeight<decltype(kept)>{kept}(0);
  CHECK(master == 1.5f);
}

}  // namespace
}  // namespace tessera::engine
