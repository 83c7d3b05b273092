// Native reductions promise no order, so stages 0 and 1 add passes where backward writes them (docs/design.md, section
// 4, point 2).
#include <doctest/doctest.h>

#include <cmath>
#include <string>
#include <vector>

#include "native.hpp"
#include "training.hpp"

namespace tessera {
namespace {

using testing::Native;

// Sums of such numbers are exact in any order.
float small_integer(index_t step, index_t leaf, Tensor tensor, index_t i) {
  return std::round(4 * testing::made_up_gradient(step, leaf, tensor, i));
}

template <class Stage, class Comm>
testing::Outcome train(int world, int passes, Layout layout = testing::ragged_layout()) {
  testing::Outcome outcome;
  run_ranks(world, [&](Local& local) {
    Comm comm(local);
    Sharded<AdamW, Stage, Fp32, Comm> optimizer(comm, layout, {}, {AdamW{}, AdamW{}},
                                                {.micro_batches = passes, .bucket_bytes = 1000});
    optimizer.initialize(testing::made_up_weight);
    const auto mine = testing::run_steps(optimizer, local.rank(), world, 3, passes, small_integer);
    CHECK(optimizer.bytes() == optimizer.plan().bytes());
    if (local.rank() == 0) outcome = mine;
  });
  return outcome;
}

TEST_CASE_TEMPLATE("passes add up to the result of an ordered reduction if sums are exact", Stage, Stage0,
                   Stage1, Stage2, Stage3) {
  for (const int world : {1, 2, 3})
    for (const int passes : {1, 2, 3}) {
      CAPTURE(world);
      CAPTURE(passes);
      CHECK(train<Stage, Native>(world, passes) == train<Stage, Local>(world, passes));
    }
}

TEST_CASE("stages 0 and 1 keep no partial sums and send gradients once per step, stages 2 and 3 once per pass") {
  const Layout layout = testing::ragged_layout();
  const Options options{.micro_batches = 3, .bucket_bytes = 1000};
  CHECK(Sharded<AdamW, Stage1, Fp32, Native>::plan(layout, 2, options).partial_sums.bytes() == 0);
  CHECK(Sharded<AdamW, Stage2, Fp32, Native>::plan(layout, 2, options).partial_sums.bytes() > 0);
  const auto sent = [&]<class Stage>(Stage) {
    index_t count = 0;
    run_ranks(2, [&](Local& local) {
      using Comm = Recording<Native>;
      Comm comm{Native(local)};
      Sharded<AdamW, Stage, Fp32, Comm> optimizer(comm, layout, {}, {AdamW{}, AdamW{}}, options);
      optimizer.initialize(testing::made_up_weight);
      comm.clear();
      static_cast<void>(testing::run_steps(optimizer, local.rank(), 2, 1, 3));
      index_t reductions = 0;
      for (const Record& record : comm.log()) reductions += record.kind == Collective::reduce_scatter;
      if (local.rank() == 0) count = reductions;
    });
    return count;
  };
  CHECK(sent(Stage2{}) == 3 * sent(Stage1{}));
  CHECK(sent(Stage1{}) == sent(Stage0{}));
  CHECK(sent(Stage1{}) > 0);
}

template <class Stage, class Precision>
double norm_of_equal_gradients(int world, int passes, float gradient) {
  double norm = 0;
  run_ranks(world, [&](Local& local) {
    Layout layout;
    layout.add_unit("a");
    layout.add_tensor("w", {100});
    Sharded<Sgd, Stage, Precision, Native> optimizer(
        Native(local), layout, {}, Sgd{},
        {.micro_batches = passes, .loss_scale = {.initial = 1, .least = 1, .dynamic = false}});
    optimizer.initialize([](Tensor, index_t) { return 0.0f; });
    const auto same = [&](index_t, index_t, Tensor, index_t) { return gradient; };
    const auto outcome = testing::run_steps(optimizer, local.rank(), world, 1, passes, same);
    if (local.rank() == 0) norm = outcome.applied[0] ? outcome.norms[0] : -1;
  });
  return norm;
}

TEST_CASE("a native float16 sum does not overflow if no gradient does, and its mean equals that of other precisions") {
  const auto norm = doctest::Approx(10 * 65504.0).epsilon(1e-3);
  for (const int world : {1, 2, 3, 4}) {
    CAPTURE(world);
    CHECK(norm_of_equal_gradients<Stage1, Fp16>(world, 1, 65504) == norm);
    CHECK(norm_of_equal_gradients<Stage2, Fp16>(world, 1, 65504) == norm);
    CHECK(norm_of_equal_gradients<Stage2, Fp16>(world, 3, 65504) == norm);
    // If backward itself adds passes in float16, their sum must be in range.
    CHECK(norm_of_equal_gradients<Stage1, Fp16>(world, 2, 32752) == doctest::Approx(10 * 32752.0).epsilon(1e-3));
    CHECK(norm_of_equal_gradients<Stage1, Fp16>(world, 2, 65504) == -1);
    CHECK(norm_of_equal_gradients<Stage1, Bf16>(world, 2, 256) == doctest::Approx(2560).epsilon(1e-2));
    CHECK(norm_of_equal_gradients<Stage2, Fp16ReduceFp32>(world, 2, 65504) == norm);
  }
}

TEST_CASE("a flat buffer is cleared only for the first pass of a step") {
  std::vector<float> parameters(300), gradients(300);
  run_ranks(1, [&](Local& local) {
    Sharded<Sgd, Stage1, Fp32, Native> optimizer(Native(local), Layout::flat(300),
                                                 {.parameters = parameters, .gradients = gradients}, Sgd{.lr = 1},
                                                 {.micro_batches = 2});
    for (int step = 0; step < 2; ++step) {
      for (int pass = 0; pass < 2; ++pass) {
        static_cast<void>(optimizer.gather(0, 300));
        auto backward = optimizer.backward();
        for (float& g : gradients) g += 1;
        backward.ready(0, 300);
      }
      static_cast<void>(optimizer.step());
    }
    optimizer.finish();
  });
  CHECK(parameters == std::vector<float>(300, -2.0f));
}

TEST_CASE("a step that is repeated after a dropped pass contains nothing of that pass") {
  run_ranks(1, [&](Local& local) {
    const Layout layout = testing::ragged_layout();
    Sharded<AdamW, Stage1, Fp32, Native> dropped(Native(local), layout, {}, {AdamW{}, AdamW{}}, {.micro_batches = 2});
    Sharded<AdamW, Stage1, Fp32, Native> smooth(Native(local), layout, {}, {AdamW{}, AdamW{}}, {.micro_batches = 2});
    dropped.initialize(testing::made_up_weight);
    smooth.initialize(testing::made_up_weight);
    testing::run_pass(dropped, 0, 0);
    {
      auto pass = dropped.backward();
      for (const Unit u : layout.backward())
        if (layout.name(u) == "head") pass.gradients(u).trainable()[0] = 100;
    }
    CHECK(testing::run_steps(dropped, 0, 1, 1, 2) == testing::run_steps(smooth, 0, 1, 1, 2));
  });
}

}  // namespace
}  // namespace tessera
