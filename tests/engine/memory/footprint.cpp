#include <doctest/doctest.h>

#include <tessera/comm/local/local.hpp>
#include <tessera/engine/memory/footprint.hpp>
#include <tessera/rule/adam.hpp>
#include <tessera/rule/schedule_free_adamw.hpp>
#include <tessera/rule/sgd.hpp>
#include <tessera/stage/stage.hpp>

namespace tessera::engine {
namespace {

TEST_CASE("the footprint of the policies has the sizes of their types") {
  constexpr Footprint adam = footprint_of<Adam, Stage2, Bf16>();
  static_assert(adam.parameter_bytes == 2 && adam.gradient_bytes == 2 && adam.master_bytes == 4);
  static_assert(adam.rules[0].state_floats == 2 && adam.agreement_words_per_unit == 1 && adam.reduced_in_place);
  static_assert(adam.state == placement::world && adam.gradients == placement::world && adam.parameters == placement::replicated);
  CHECK(footprint_of<Sgd, Stage0, Fp32>().master_bytes == 0);
}

TEST_CASE("parameters are stored during evaluation if they cannot be computed from a master weight") {
  static_assert(footprint_of<Adam, Stage2, Fp32>().training_weight_bytes == 0);
  static_assert(footprint_of<ScheduleFreeAdamW, Stage2, Fp32>().training_weight_bytes == 4);
  static_assert(footprint_of<ScheduleFreeAdamW, Stage2, Bf16Remainder>().training_weight_bytes == 2);
  static_assert(footprint_of<ScheduleFreeAdamW, Stage2, Bf16Stochastic>().training_weight_bytes == 2);
  static_assert(footprint_of<ScheduleFreeAdamW, Stage2, Bf16>().training_weight_bytes == 0);
  static_assert(footprint_of<ScheduleFreeAdamW, Stage2, Fp16>().training_weight_bytes == 0);
}

TEST_CASE("backward adds the passes if sums are not ordered and gradients are replicated") {
  CHECK(adds_passes<Stage0>(false));
  CHECK(adds_passes<Stage1>(false));
  CHECK_FALSE(adds_passes<Stage2>(false));
  CHECK_FALSE(adds_passes<Stage0>(true));
}

TEST_CASE("Local's sums are ordered and need no workspace") {
  constexpr Sums sums = sums_of<Local, Bf16>();
  CHECK(sums.ordered);
  CHECK_FALSE(sums.workspace);
  CHECK_FALSE(sums.partial_workspace);
}

}  // namespace
}  // namespace tessera::engine
