// Fp16: an overflow on one rank makes all ranks skip the step, and the loss scale is the same on all ranks.
#include <doctest/doctest.h>

#include <limits>
#include <string>
#include <vector>

#include "training.hpp"

namespace tessera {
namespace {

using testing::ragged_layout;

const std::vector<Adam> rules(2, Adam{.lr = 0.1});

// A run in which the gradients of some steps are not finite on one rank, with the report of each step.
struct Run {
  std::vector<double> scales;
  std::vector<bool> applied;
  std::vector<float> parameters;
  friend bool operator==(const Run&, const Run&) = default;
};

template <class Stage>
Run train(int world, int passes, const std::vector<float>& poison, LossScale loss_scale) {
  Run run;
  run_ranks(world, [&](Local& comm) {
    Sharded<Adam, Stage, Fp16> optimizer(comm, ragged_layout(), {}, rules,
                                         {.micro_batches = passes, .loss_scale = loss_scale});
    optimizer.initialize(testing::made_up_weight);
    Run mine;
    for (std::size_t step = 0; step < poison.size(); ++step) {
      for (int k = 0; k < passes; ++k)
        testing::run_pass(optimizer, static_cast<index_t>(step), k * world + comm.rank(),
                          [&](index_t s, index_t leaf, Tensor t, index_t i) {
                            return leaf == 1 && t.index == 1 && i == 0 && poison[step] != 0
                                       ? poison[step]
                                       : testing::made_up_gradient(s, leaf, t, i);
                          });
      const engine::Report report = optimizer.step();
      CHECK(report.applied() == (poison[step] == 0));
      mine.scales.push_back(report.loss_scale());
      mine.applied.push_back(report.applied());
    }
    mine.parameters = testing::parameters_of(optimizer);
    CHECK(optimizer.bytes() == optimizer.plan().bytes());
    if (comm.rank() == world - 1) run = mine;
  });
  return run;
}

constexpr float infinity = std::numeric_limits<float>::infinity();
constexpr float nan = std::numeric_limits<float>::quiet_NaN();

TEST_CASE(
    "an overflow on one rank changes no parameters, state or step count, and gives the same scales at every stage") {
  const std::vector<float> poison{0, infinity, 0, 0, nan, -infinity, 0, 0, 0};
  const LossScale loss_scale{.initial = 256, .growth_interval = 2, .hysteresis = 1};
  const Run expected = train<Stage0>(4, 1, poison, loss_scale);
  CHECK(expected.scales == std::vector<double>{256, 256, 128, 128, 256, 128, 64, 64, 128});
  CHECK(train<Stage1>(4, 1, poison, loss_scale) == expected);
  CHECK(train<Stage2>(4, 1, poison, loss_scale) == expected);
  CHECK(train<Stage3>(4, 1, poison, loss_scale) == expected);
  CHECK(train<Stage1>(2, 2, poison, loss_scale) == expected);
  CHECK(train<Stage3>(1, 4, poison, loss_scale) == expected);
}

TEST_CASE("one infinity, one minus infinity and six NaNs lower the scale from 2^8 to 1") {
  const std::vector<float> poison{infinity, -infinity, nan, nan, nan, nan, nan, nan, 0};
  const Run run = train<Stage2>(2, 1, poison, {.initial = 256, .growth_interval = 2, .hysteresis = 1});
  CHECK(run.scales == std::vector<double>{256, 128, 64, 32, 16, 8, 4, 2, 1});
}

TEST_CASE("gradients without overflow give the same weights with any loss scale") {
  const std::vector<float> clean(4, 0.0f);
  const Run one = train<Stage1>(2, 2, clean, {.initial = 1, .dynamic = false});
  const Run large = train<Stage1>(2, 2, clean, {.initial = 1024, .dynamic = false});
  REQUIRE(one.parameters.size() == large.parameters.size());
  // With powers of two, only gradients below float16's normal range round differently.
  for (std::size_t i = 0; i < one.parameters.size(); ++i)
    CHECK(one.parameters[i] == doctest::Approx(large.parameters[i]).epsilon(0.01));
}

TEST_CASE("a step with fewer micro-batches than planned averages over its own micro-batches") {
  run_ranks(2, [&](Local& comm) {
    Sharded<Adam, Stage2, Fp16> optimizer(comm, ragged_layout(), {}, rules,
                                          {.micro_batches = 5, .loss_scale = {.initial = 1, .dynamic = false}});
    optimizer.initialize(testing::made_up_weight);
    double norm = 0;
    for (const int passes : {5, 3, 1, 2, 5}) {
      optimizer.begin_step(2 * passes);
      for (int k = 0; k < passes; ++k)
        testing::run_pass(optimizer, 0, 0, [](index_t, index_t, Tensor, index_t) { return 60000.0f; });
      const engine::Report report = optimizer.step();
      CHECK(report.applied());
      if (norm != 0) CHECK(report.gradient_norm() == norm);
      norm = report.gradient_norm();
    }
  });
}

TEST_CASE("a report says that the loss scale cannot be lowered, and names the first tensor that is not finite") {
  const Layout layout = ragged_layout();
  run_ranks(2, [&](Local& comm) {
    Sharded<Adam, Stage2, Fp16> optimizer(comm, layout, {}, rules,
                                          {.loss_scale = {.initial = 2, .hysteresis = 1}});
    optimizer.initialize(testing::made_up_weight);
    std::vector<bool> exhausted;
    for (index_t step = 0; step < 3; ++step) {
      testing::run_pass(optimizer, step, comm.rank(), [&](index_t s, index_t leaf, Tensor t, index_t i) {
        return leaf == 1 && layout.name(t) == "body.bias" ? infinity : testing::made_up_gradient(s, leaf, t, i);
      });
      const engine::Report report = optimizer.step();
      CHECK(report.first_non_finite() == "body.bias");
      CHECK(report.step() == 0);
      exhausted.push_back(report.loss_scale_exhausted());
    }
    CHECK(exhausted == std::vector<bool>{false, true, true});
  });
}

TEST_CASE("gradients that do not overflow on any rank do not overflow in their mean") {
  Layout layout;
  layout.add_unit("a");
  layout.add_tensor("w", {100});
  run_ranks(2, [&](Local& comm) {
    Sharded<Adam, Stage1, Fp16> optimizer(comm, layout, {}, Adam{}, {.loss_scale = {.initial = 1, .dynamic = false}});
    optimizer.initialize(testing::made_up_weight);
    testing::run_pass(optimizer, 0, comm.rank(), [](index_t, index_t, Tensor, index_t) { return 65504.0f; });
    const engine::Report report = optimizer.step();
    CHECK(report.applied());
    CHECK(report.gradient_norm() == 655040);
    testing::run_pass(optimizer, 0, comm.rank(), [](index_t, index_t, Tensor, index_t) { return 65536.0f; });
    CHECK_FALSE(optimizer.step().applied());
  });
}

// How many steps were skipped before the first applied one, the loss scale then, and the effect of that step.
struct Settled {
  int skipped = 0;
  double scale = 0;
  double norm = 0;
  std::vector<float> weights;
  friend bool operator==(const Settled&, const Settled&) = default;
};

// All micro-batches have the same gradients: a large one, and one that underflows at a low scale.
template <class Stage, class Precision, class Comm>
Settled settle(Comm comm, int passes) {
  Layout layout;
  layout.add_unit("a");
  layout.add_tensor("w", {2});
  Sharded<Sgd, Stage, Precision, Comm> optimizer(comm, layout, {}, Sgd{.lr = 1},
                                                 {.micro_batches = passes, .loss_scale = {.hysteresis = 1}});
  optimizer.initialize([](Tensor, index_t) { return 0.0f; });
  for (Settled settled;; ++settled.skipped) {
    for (int k = 0; k < passes; ++k)
      testing::run_pass(optimizer, settled.skipped, 0,
                        [](index_t, index_t, Tensor, index_t i) { return i == 0 ? 4.0f : 3e-9f; });
    const engine::Report report = optimizer.step();
    settled.scale = report.loss_scale();
    settled.norm = report.gradient_norm();
    if (report.applied()) settled.weights = testing::parameters_of(optimizer);
    if (report.applied() || settled.skipped == 20) return settled;
  }
}

template <class Stage, class Precision>
Settled settle(int world, int passes) {
  Settled settled;
  run_ranks(world, [&](Local& comm) {
    const Settled mine = settle<Stage, Precision>(comm, passes);
    if (comm.rank() == world - 1) settled = mine;
  });
  return settled;
}

TEST_CASE(
    "the scale settles at the same value, after the same number of skipped steps, for every number of micro-batches") {
  const Settled one = settle<Stage1, Fp16>(Self(), 1);
  CHECK(one.skipped == 3);
  CHECK(one.scale == 8192);
  CHECK(one.norm == 4);
  CHECK(one.weights[0] == -4);
  CHECK(one.weights[1] == doctest::Approx(-3e-9).epsilon(2e-3));
  CHECK(settle<Stage1, Fp16>(Self(), 1024) == one);
  CHECK(settle<Stage1, Fp16>(8, 1) == one);
  CHECK(settle<Stage1, Fp16>(4, 256) == one);
  CHECK(settle<Stage3, Fp16>(4, 256) == one);
  CHECK(settle<Stage3, Fp16>(3, 5) == one);
  CHECK(settle<Stage1, Fp16ReduceFp32>(1, 1) == one);
  CHECK(settle<Stage1, Fp16ReduceFp32>(4, 256) == one);
}

TEST_CASE("other precisions do not scale the loss") {
  Self self;
  Sharded<Adam, Stage1, Bf16, Self> optimizer(self, ragged_layout(), {}, rules);
  optimizer.initialize(testing::made_up_weight);
  CHECK(optimizer.loss_scale() == 1);
  testing::run_pass(optimizer, 0, 0, [](index_t, index_t, Tensor, index_t) { return infinity; });
  const engine::Report report = optimizer.step();
  CHECK(report.loss_scale() == 1);
  CHECK_FALSE(report.loss_scale_exhausted());
  CHECK(optimizer.loss_scale() == 1);
}

}  // namespace
}  // namespace tessera
