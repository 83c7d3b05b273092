#include <doctest/doctest.h>

#include <tessera/comm/local/local.hpp>
#include <tessera/engine/build/composition.hpp>
#include <tessera/rule/adam.hpp>
#include <tessera/rule/schedule_free_adamw.hpp>
#include <tessera/rule/sgd.hpp>

namespace tessera::engine {
namespace {

constexpr Layout two_tensors() {
  Layout layout;
  layout.add_unit("a");
  layout.add_tensor("w", {100});
  layout.add_tensor("frozen", {30}, {.frozen = true});
  return layout;
}

TEST_CASE("the memory of a rank can be planned without ranks, as a constant expression") {
  using Half = Composition<Adam, Stage1, Bf16, Local>;
  static_assert(Half::plan(two_tensors(), 2).parameters.elements == 128 + 30);
  static_assert(Half::plan(two_tensors(), 2).master_weights.elements == 64);  // whole blocks: 64 and 36 elements
  static_assert(Half::plan(two_tensors(), 1).master_weights.elements == 128);
}

TEST_CASE("the required sizes of the caller's buffers are those of the plan") {
  const Required required = Composition<Adam, Stage1, Fp32, Local>::required(two_tensors(), 2);
  CHECK(required.parameters == 158);
  CHECK(required.gradients == 100);
  CHECK(Composition<Adam, Stage3, Fp32, Local>::required(two_tensors(), 2).parameters == 64 + 64);
}

TEST_CASE("a plan refuses a world without ranks and options that are out of range") {
  using Plain = Composition<Sgd, Stage0, Fp32, Local>;
  CHECK_THROWS_WITH_AS(static_cast<void>(Plain::plan(two_tensors(), 0)), doctest::Contains("at least 1 rank, not 0"),
                       OptionError);
  CHECK_THROWS_WITH_AS(static_cast<void>(Plain::plan(two_tensors(), 1, {.micro_batches = 0})),
                       doctest::Contains("micro_batches"), OptionError);
}

TEST_CASE("without group_size the world is one group, and a size that does not divide it is refused") {
  using Hybrid = Composition<Sgd, StageHybrid, Fp32, Local>;
  const auto parameters = [](int group_size) {
    return Hybrid::plan(two_tensors(), 4, {.group_size = group_size}).parameters.elements;
  };
  CHECK(parameters(0) == parameters(4));
  CHECK(parameters(2) == 2 * parameters(4));
  CHECK_THROWS_WITH_AS(parameters(3), doctest::Contains("4 ranks do not divide into groups of group_size = 3"),
                       OptionError);
}

}  // namespace
}  // namespace tessera::engine
