// The sum over all micro-batches of a step has the same bits for every number of ranks, whether it divides the number
// of micro-batches or not (docs/design.md, section 4, point 3).
#include <doctest/doctest.h>

#include <cmath>
#include <string>
#include <type_traits>
#include <vector>

#include "native.hpp"
#include "training.hpp"

namespace tessera {
namespace {

using doctest::Contains;

const std::vector<AdamW> rules{AdamW{}, AdamW{.lr = 0.01}};

Options options_for(int world, index_t micro_batches) {
  return {.micro_batches = layout::MicroBatches{micro_batches, world}.passes(),
          .clip_norm = 0.5,
          .bucket_bytes = 1000,
          .loss_scale = {.initial = 1024}};
}

template <class Stage, class Precision, class Comm>
testing::Outcome train(Comm& comm, index_t micro_batches,
                       const testing::LeafGradient& gradient = testing::made_up_gradient) {
  const Options options = options_for(comm.size(), micro_batches);
  Sharded<AdamW, Stage, Precision, Comm> optimizer(comm, testing::ragged_layout(), {}, rules, options);
  optimizer.initialize(testing::made_up_weight);
  const auto outcome = testing::run_steps(optimizer, comm.rank(), comm.size(), 3, options.micro_batches, gradient,
                                          micro_batches);
  CHECK(optimizer.bytes() == optimizer.plan().bytes());
  return outcome;
}

template <class Stage, class Precision>
testing::Outcome train(int world, index_t micro_batches) {
  testing::Outcome outcome;
  run_ranks(world, [&](Local& comm) {
    const auto mine = train<Stage, Precision>(comm, micro_batches);
    if (comm.rank() == 0) outcome = mine;
  });
  return outcome;
}

TEST_CASE("the same micro-batches have the same bits at every stage and world size, also if it does not divide them") {
  for (const index_t micro_batches : {1, 2, 3, 5, 7, 12, 13}) {
    CAPTURE(micro_batches);
    Self self;
    const auto alone = train<Stage0, Fp32>(self, micro_batches);
    for (int world = 1; world <= 7; ++world) {
      CAPTURE(world);
      CHECK(train<Stage0, Fp32>(world, micro_batches) == alone);
      CHECK(train<Stage1, Fp32>(world, micro_batches) == alone);
      CHECK(train<Stage2, Fp32>(world, micro_batches) == alone);
      CHECK(train<Stage3, Fp32>(world, micro_batches) == alone);
    }
  }
}

TEST_CASE_TEMPLATE("16-bit gradients too have the same bits, with and without a loss scale", Precision, Bf16, Fp16) {
  Self self;
  const auto alone = train<Stage0, Precision>(self, 13);
  for (const int world : {3, 5, 16}) {
    CHECK(train<Stage1, Precision>(world, 13) == alone);
    CHECK(train<Stage3, Precision>(world, 13) == alone);
  }
}

TEST_CASE("the number of micro-batches may change from step to step") {
  const auto run = [](auto& comm) {
    Sharded<AdamW, Stage2, Fp32, std::remove_reference_t<decltype(comm)>> optimizer(
        comm, testing::ragged_layout(), {}, rules, options_for(comm.size(), 12));
    optimizer.initialize(testing::made_up_weight);
    for (const index_t micro_batches : {12, 1, 7, 12, 5}) {
      const layout::MicroBatches step{micro_batches, comm.size()};
      optimizer.begin_step(micro_batches);
      for (int k = 0; k < step.passes(); ++k)
        testing::run_pass(optimizer, micro_batches, step.before(k) + comm.rank());
      CHECK(optimizer.step().applied());
    }
    return testing::parameters_of(optimizer);
  };
  Self self;
  const auto alone = run(self);
  for (const int world : {2, 3, 5})
    run_ranks(world, [&](Local& comm) { CHECK(run(comm) == alone); });
}

TEST_CASE("a step without begin_step() has the number of the options, whatever the step before had") {
  const auto run = [](auto& comm, bool says_so) {
    Sharded<AdamW, Stage2, Fp32, std::remove_reference_t<decltype(comm)>> optimizer(
        comm, testing::ragged_layout(), {}, rules, {.micro_batches = 4 / comm.size()});
    optimizer.initialize(testing::made_up_weight);
    for (const index_t micro_batches : {1, 4, 3, 4}) {
      const layout::MicroBatches step{micro_batches, comm.size()};
      if (micro_batches < 4 || says_so) optimizer.begin_step(micro_batches);
      for (int k = 0; k < step.passes(); ++k)
        testing::run_pass(optimizer, micro_batches, step.before(k) + comm.rank());
      CHECK(optimizer.step().applied());
    }
    return testing::parameters_of(optimizer);
  };
  Self self;
  const auto expected = run(self, true);
  CHECK(run(self, false) == expected);
  run_ranks(2, [&](Local& comm) { CHECK(run(comm, false) == expected); });
}

// Sums of such numbers are exact in any order.
float small_integer(index_t step, index_t leaf, Tensor tensor, index_t i) {
  return std::round(4 * testing::made_up_gradient(step, leaf, tensor, i));
}

TEST_CASE_TEMPLATE("a native sum adds nothing for a rank without a micro-batch", Stage, Stage0, Stage1, Stage2,
                   Stage3) {
  for (const index_t micro_batches : {1, 2, 3, 5, 8}) {
    Self self;
    const auto alone = train<Stage, Fp32>(self, micro_batches, small_integer);
    for (int world = 1; world <= 4; ++world)
      run_ranks(world, [&](Local& local) {
        testing::Native comm(local);
        CHECK(train<Stage, Fp32>(comm, micro_batches, small_integer) == alone);
      });
  }
}

template <class Stage, class Comm>
std::vector<float> train_flat(int world, index_t micro_batches, bool integers) {
  constexpr index_t n = 777;
  std::vector<float> end;
  run_ranks(world, [&](Local& local) {
    std::vector<float> parameters(n, 0.5f), gradients(n, 100.0f);
    Comm comm(local);
    Sharded<AdamW, Stage, Fp32, Comm> optimizer(comm, Layout::flat(n), {parameters, gradients}, AdamW{},
                                                options_for(world, micro_batches));
    const layout::MicroBatches step_has{micro_batches, world};
    for (int step = 0; step < 3; ++step) {
      optimizer.begin_step(micro_batches);
      for (int k = 0; k < step_has.passes(); ++k) {
        const bool has = optimizer.has_micro_batch();
        auto pass = optimizer.backward();
        for (index_t i = 0; has && i < n; ++i) {
          const float g = testing::made_up_gradient(step, step_has.before(k) + local.rank(), Tensor{0}, i);
          gradients[to_size(i)] += integers ? std::round(4 * g) : g;
        }
        pass.ready(0, n);
      }
      static_cast<void>(optimizer.step());
      optimizer.finish();
    }
    if (local.rank() == 0) end = parameters;
  });
  return end;
}

TEST_CASE("a flat buffer has the same bits at every world size") {
  for (const index_t micro_batches : {1, 3, 5, 12})
    for (const int world : {2, 3, 5}) {
      const auto alone = train_flat<Stage0, Local>(1, micro_batches, false);
      CHECK(train_flat<Stage0, Local>(world, micro_batches, false) == alone);
      CHECK(train_flat<Stage1, Local>(world, micro_batches, false) == alone);
      CHECK(train_flat<Stage1, testing::Native>(world, micro_batches, true) ==
            train_flat<Stage0, Local>(1, micro_batches, true));
    }
}

TEST_CASE("a rank without a micro-batch gives no gradients, and if it drops its pass the step is dropped") {
  run_ranks(3, [&](Local& comm) {
    const auto make = [&] {
      return Sharded<AdamW, Stage2>(comm, testing::ragged_layout(), {}, rules,
                                    {.micro_batches = 2, .bucket_bytes = 1000});
    };
    auto optimizer = make();
    optimizer.initialize(testing::made_up_weight);
    optimizer.begin_step(4);
    testing::run_pass(optimizer, 0, comm.rank());
    CHECK(optimizer.has_micro_batch() == (comm.rank() == 0));
    {
      const auto pass = optimizer.backward();
      if (comm.rank() > 0)
        CHECK_THROWS_WITH_AS(static_cast<void>(pass.gradients(Unit{0})), Contains("no micro-batch in this pass"),
                             UsageError);
    }
    const auto after_drop = testing::run_steps(optimizer, comm.rank(), 3, 1, 2, testing::made_up_gradient, 4);
    auto other = make();
    other.initialize(testing::made_up_weight);
    CHECK(testing::run_steps(other, comm.rank(), 3, 1, 2, testing::made_up_gradient, 4) == after_drop);
  });
}

TEST_CASE("if ranks make different passes of a step, all get AgreementError") {
  std::vector<std::string> errors(3);
  run_ranks(3, [&](Local& comm) {
    Sharded<AdamW, Stage2> optimizer(comm, testing::ragged_layout(), {}, rules, {.micro_batches = 2});
    optimizer.initialize(testing::made_up_weight);
    optimizer.begin_step(comm.rank() == 1 ? 4 : 5);
    try {
      for (int k = 0; k < 2; ++k) testing::run_pass(optimizer, 0, index_t{k} * 3 + comm.rank());
      optimizer.step();
    } catch (const AgreementError& error) {
      errors[to_size(comm.rank())] = error.what();
    }
  });
  for (const std::string& error : errors) CHECK(error.find("rank") != std::string::npos);
}

TEST_CASE("a unit without a gradient from any micro-batch keeps its weights, also if some ranks had no micro-batch") {
  run_ranks(3, [&](Local& comm) {
    Layout layout;
    layout.add_unit("used");
    layout.add_tensor("w", {70});
    const Unit unused = layout.add_unit("unused");
    const Tensor still = layout.add_tensor("w", {70});
    Sharded<AdamW, Stage3> optimizer(comm, layout, {}, AdamW{.lr = 1, .weight_decay = 0.5});
    optimizer.initialize(testing::made_up_weight);
    optimizer.begin_step(2);
    const bool has_micro_batch = optimizer.has_micro_batch();
    CHECK(has_micro_batch == (comm.rank() < 2));
    auto pass = optimizer.backward();
    for (const Unit u : layout.backward()) {
      const auto weights = optimizer.gather(u);
      if (!has_micro_batch) {
        pass.ready(u);
      } else if (u == unused) {
        pass.skip(u);
      } else {
        const auto gradients = pass.gradients(u);
        for (const Tensor t : layout.tensors(u))
          for (float& g : gradients[t]) g = 1;
        pass.ready(u);
      }
    }
    CHECK(optimizer.step().applied());
    const auto weights = optimizer.gather(unused);
    for (index_t i = 0; i < 70; ++i) CHECK(weights[still][to_size(i)] == testing::made_up_weight(still, i));
  });
}

}  // namespace
}  // namespace tessera
