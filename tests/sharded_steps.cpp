// What may change from step to step: the number of micro-batches, the norm for clipping, units without a gradient; and
// weights that an update makes infinite.
#include <doctest/doctest.h>

#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "training.hpp"

namespace tessera {
namespace {

using doctest::Contains;
using testing::ragged_layout;

const std::vector<Adam> rules(2, Adam{.lr = 0.1});

template <class Test>
void at_every_stage(Test test) {
  test.template operator()<Stage0>();
  test.template operator()<Stage1>();
  test.template operator()<Stage2>();
  test.template operator()<Stage3>();
}

// Three steps of `passes` micro-batches per rank, set by begin_step if `planned` is larger.
template <class Stage>
testing::Outcome train(int planned, int passes) {
  testing::Outcome outcome;
  run_ranks(2, [&](Local& comm) {
    Sharded<Adam, Stage> optimizer(comm, ragged_layout(), {}, rules, {.micro_batches = planned, .bucket_bytes = 300});
    optimizer.initialize(testing::made_up_weight);
    testing::Outcome mine;
    for (int step = 0; step < 3; ++step) {
      if (passes != planned) optimizer.begin_step(2 * passes);
      for (int k = 0; k < passes; ++k) testing::run_pass(optimizer, step, index_t{k} * 2 + comm.rank());
      const auto report = optimizer.step();
      mine.norms.push_back(report.gradient_norm());
      mine.applied.push_back(report.applied());
    }
    mine.parameters = testing::parameters_of(optimizer);
    CHECK(optimizer.bytes() == optimizer.plan().bytes());
    if (comm.rank() == 0) outcome = mine;
  });
  return outcome;
}

TEST_CASE("a step with fewer micro-batches than planned has the bits of a step that was planned so") {
  at_every_stage([]<class Stage> {
    for (const int passes : {1, 2, 3}) CHECK(train<Stage>(4, passes) == train<Stage>(passes, passes));
  });
}

TEST_CASE("begin_step applies to one step, also if it is dropped, and the next step has Options::micro_batches again") {
  Self self;
  Sharded<Adam, Stage2, Fp32, Self> optimizer(self, ragged_layout(), {}, rules, {.micro_batches = 2});
  optimizer.initialize(testing::made_up_weight);
  optimizer.begin_step(1);
  testing::run_pass(optimizer, 0, 0);
  optimizer.drop_step();
  testing::run_pass(optimizer, 0, 0);
  CHECK(optimizer.step().applied());
  testing::run_pass(optimizer, 1, 0);
  CHECK_THROWS_WITH_AS(optimizer.step(), Contains("step() after 1 of 2 passes"), UsageError);
  CHECK_THROWS_WITH_AS(optimizer.begin_step(1), Contains("begin_step() in the middle of a step"), UsageError);
}

TEST_CASE("more micro-batches than planned are refused") {
  run_ranks(2, [&](Local& comm) {
    Sharded<Adam, Stage1> optimizer(comm, ragged_layout(), {}, rules, {.micro_batches = 3});
    for (const index_t micro_batches : {0, -2, 7, 8})
      CHECK_THROWS_WITH_AS(optimizer.begin_step(micro_batches), Contains("a step has from 1 to 6 micro-batches over all 2"),
                           OptionError);
    for (const index_t micro_batches : {1, 5, 6}) CHECK_NOTHROW(optimizer.begin_step(micro_batches));
  });
}

TEST_CASE("if ranks begin steps of different sizes, all get AgreementError") {
  std::vector<std::string> errors(2);
  run_ranks(2, [&](Local& comm) {
    Sharded<Adam, Stage1> optimizer(comm, ragged_layout(), {}, rules, {.micro_batches = 2});
    optimizer.initialize(testing::made_up_weight);
    if (comm.rank() == 1) optimizer.begin_step(2);
    try {
      for (int k = 0; k < 2 - comm.rank(); ++k) testing::run_pass(optimizer, 0, index_t{k} * 2 + comm.rank());
      optimizer.step();
    } catch (const AgreementError& error) {
      errors[comm.rank()] = error.what();
    }
  });
  for (const std::string& error : errors) CHECK(error.find("rank") != std::string::npos);
}

TEST_CASE("clip_norm may change between steps, is checked, and must be the same on all ranks") {
  run_ranks(2, [&](Local& comm) {
    Sharded<Sgd, Stage1> optimizer(comm, Layout::flat(0), {}, Sgd{});
    optimizer.clip_norm() = -1;
    static_cast<void>(optimizer.backward());
    CHECK_THROWS_WITH_AS(optimizer.step(), Contains("clip_norm must be greater than 0"), OptionError);
    optimizer.clip_norm() = 1 + comm.rank();
    CHECK_THROWS_WITH_AS(optimizer.step(), Contains("Options::clip_norm: rank 0 has 1, rank 1 has 2"), AgreementError);
  });
  Self self;
  Layout layout;
  layout.add_unit("u");
  layout.add_tensor("w", {2});
  Sharded<Sgd, Stage0, Fp32, Self> optimizer(self, layout, {}, Sgd{.lr = 1}, {.clip_norm = 1});
  optimizer.initialize([](Tensor, index_t) { return 0.0f; });
  const auto weight_after_a_step = [&] {
    testing::run_pass(optimizer, 0, 0, [](index_t, index_t, Tensor, index_t i) { return i == 0 ? 100.0f : 0.0f; });
    optimizer.step();
    return testing::parameters_of(optimizer)[0];
  };
  CHECK(weight_after_a_step() == doctest::Approx(-1));
  optimizer.clip_norm() = 10;
  CHECK(weight_after_a_step() == doctest::Approx(-11));
}

// A step in which rank r gives unit 1 a gradient in pass k if bit 2 k + r of `given` is set; then a normal step.
template <class Stage, class Rule>
std::vector<float> train_with_skips(unsigned given, index_t bucket_bytes, bool zeros_instead = false) {
  std::vector<float> parameters;
  run_ranks(2, [&](Local& comm) {
    const Layout layout = ragged_layout();
    Sharded<Rule, Stage> optimizer(comm, layout, {}, std::vector<Rule>(2, Rule{.lr = 0.1, .weight_decay = 0.1}),
                                   {.micro_batches = 2, .bucket_bytes = bucket_bytes});
    optimizer.initialize(testing::made_up_weight);
    testing::run_steps(optimizer, comm.rank(), 2, 1, 2);  // so that the state is not zero
    for (int k = 0; k < 2; ++k) {
      const auto leaf = static_cast<std::uint64_t>(2 * k + comm.rank());
      const bool has = (given >> leaf) & 1;
      for (const Unit u : layout.forward()) static_cast<void>(optimizer.gather(u));
      auto pass = optimizer.backward();
      for (const Unit u : layout.backward()) {
        static_cast<void>(optimizer.gather(u));
        if (u.index == 1 && !has && !zeros_instead) {
          pass.skip(u);
          continue;
        }
        const auto gradients = pass.gradients(u);
        if (u.index != 1 || has)
          for (float& g : gradients.trainable()) g += testing::uniform(9, leaf, static_cast<std::uint64_t>(u.index));
        pass.ready(u);
      }
    }
    CHECK(optimizer.step().applied());
    testing::run_steps(optimizer, comm.rank(), 2, 1, 2);
    const auto mine = testing::parameters_of(optimizer);
    if (comm.rank() == 0) parameters = mine;
  });
  return parameters;
}

TEST_CASE("a unit with a gradient from some micro-batches is updated as if the others had given zeros") {
  at_every_stage([]<class Stage> {
    for (const unsigned given : {0b0001u, 0b1000u, 0b0110u})
      CHECK(train_with_skips<Stage, AdamW>(given, 300) == train_with_skips<Stage, AdamW>(given, 300, true));
  });
}

TEST_CASE("a unit without a gradient from any micro-batch keeps weights and state, wherever buckets and segments end") {
  const auto expected = train_with_skips<Stage0, AdamW>(0, 300);
  CHECK(expected != train_with_skips<Stage0, AdamW>(0, 300, true));
  at_every_stage([&]<class Stage> {
    for (const index_t bucket_bytes : {index_t{1}, index_t{300}, index_t{1} << 20})
      CHECK(train_with_skips<Stage, AdamW>(0, bucket_bytes) == expected);
  });
  CHECK(train_with_skips<Stage0, Lamb>(0, 300) == train_with_skips<Stage3, Lamb>(0, 300));
  CHECK(train_with_skips<Stage0, Lamb>(0, 300) != train_with_skips<Stage0, Lamb>(0, 300, true));
}

TEST_CASE("weights and state of a unit without a gradient have the same bits after the step") {
  Self self;
  Layout layout;
  for (const char* name : {"a", "b", "c"}) {
    layout.add_unit(name);
    layout.add_tensor("w", {64});  // one segment for all three
  }
  Sharded<AdamW, Stage1, Fp32, Self> optimizer(self, layout, {}, AdamW{.lr = 0.1});
  optimizer.initialize(testing::made_up_weight);
  testing::run_steps(optimizer, 0, 1, 1, 1);
  const auto before = testing::parameters_of(optimizer);
  {
    auto pass = optimizer.backward();
    for (const Unit u : layout.backward()) {
      if (u.index == 1) {
        pass.skip(u);
        CHECK_THROWS_WITH_AS(pass.ready(u), Contains("without gradients"), UsageError);
        CHECK_THROWS_WITH_AS(pass.skip(u), Contains("ready already"), UsageError);
        continue;
      }
      pass.gradients(u).trainable()[0] = 1;
      CHECK_THROWS_WITH_AS(pass.skip(u), Contains("skip('"), UsageError);
      pass.ready(u);
    }
  }
  CHECK(optimizer.step().applied());
  const auto after = testing::parameters_of(optimizer);
  for (std::size_t i = 0; i < after.size(); ++i) CHECK((after[i] == before[i]) == (i / 64 == 1));
}

TEST_CASE("a flat layout's only unit cannot be skipped") {
  Self self;
  std::vector<float> p(10), g(10);
  Sharded<Adam, Stage1, Fp32, Self> flat(self, Layout::flat(10), {.parameters = p, .gradients = g}, Adam{});
  auto pass = flat.backward();
  CHECK_THROWS_WITH_AS(pass.skip(Unit{0}), Contains("flat layout"), UsageError);
  static_cast<void>(flat.gather(0, 10));
  pass.ready(0, 10);
}

// The first update makes rank 0's first tensor of the last unit infinite. Checks the reports of the steps and finish().
template <class Stage, class Precision>
void check_weights_that_explode(double rate) {
  CAPTURE(Precision::name);
  run_ranks(3, [&](Local& comm) {
    const Layout layout = ragged_layout();
    Sharded<Sgd, Stage, Precision> optimizer(comm, layout, {}, std::vector<Sgd>{{.lr = 0}, {.lr = rate}},
                                             {.bucket_bytes = 300, .loss_scale = {.initial = 1}});
    optimizer.initialize(testing::made_up_weight);
    CHECK(optimizer.finish().first_non_finite_weight().empty());
    const testing::LeafGradient gradient = [](index_t, index_t, Tensor t, index_t i) { return t.index == 7 && i == 3 ? 2.0f : 0; };
    testing::run_pass(optimizer, 0, comm.rank(), gradient);
    const auto first = optimizer.step();
    CHECK(first.applied());
    CHECK(first.first_non_finite_weight().empty());
    const std::string found = optimizer.finish().first_non_finite_weight();
    CHECK((found.empty() || found == "head.bias"));
    if (!Stage::shards_state) CHECK(found == "head.bias");
    testing::run_pass(optimizer, 1, comm.rank(), gradient);
    CHECK(optimizer.step().first_non_finite_weight() == "head.bias");
  });
}

TEST_CASE("a weight that an update makes infinite is in the next step's report on all ranks") {
  check_weights_that_explode<Stage0, Fp32>(3e38);
  check_weights_that_explode<Stage2, Fp32>(3e38);
  check_weights_that_explode<Stage1, Bf16>(1.7e38);  // the master weight is still finite, the parameter is not
  check_weights_that_explode<Stage3, Fp16>(65504);
  check_weights_that_explode<Stage2, Bf16Stochastic>(3e38);
  check_weights_that_explode<Stage1, Bf16Remainder>(3e38);
}

TEST_CASE("new initial weights clear the report of an infinite weight") {
  Self self;
  Layout layout;
  layout.add_unit("u");
  layout.add_tensor("w", {200});
  Sharded<Sgd, Stage1, Fp32, Self> optimizer(self, layout, {}, Sgd{.lr = 3e38});
  optimizer.initialize(testing::made_up_weight);
  const auto one_step = [&] {
    testing::run_pass(optimizer, 0, 0, [](index_t, index_t, Tensor, index_t i) { return i == 130 ? 2.0f : 0; });
    return optimizer.step().first_non_finite_weight();
  };
  one_step();
  CHECK(optimizer.finish().first_non_finite_weight() == "u.w");
  optimizer.initialize(testing::made_up_weight);
  optimizer.rule().lr = 0;
  CHECK(one_step().empty());
  CHECK(one_step().empty());
}

// Steps in which forward gathers six units in a changing order, some twice, some never. regular: in the usual order.
template <class Stage>
std::vector<float> train_in_changing_order(int prefetch, bool regular) {
  Layout layout;
  for (const char* name : {"a", "b", "c", "d", "e", "f"}) {
    layout.add_unit(name);
    layout.add_tensor("w", {100});
  }
  std::vector<float> parameters;
  run_ranks(2, [&](Local& comm) {
    Sharded<Adam, Stage> optimizer(comm, layout, {}, Adam{.lr = 0.1}, {.bucket_bytes = 256, .prefetch = prefetch});
    optimizer.initialize(testing::made_up_weight);
    for (std::uint64_t step = 0; step < 30; ++step) {
      for (std::uint64_t k = 0; k < 6; ++k) {
        const std::uint64_t drawn = testing::hash(step, k);
        if (regular || drawn % 3 != 0)
          static_cast<void>(optimizer.gather(Unit{static_cast<int>(regular ? k : drawn / 3 % 6)}));
      }
      auto pass = optimizer.backward();
      for (const Unit u : layout.backward()) {
        const auto weights = optimizer.gather(u);
        for (float& g : pass.gradients(u).trainable()) g += testing::uniform(step, static_cast<std::uint64_t>(u.index));
        pass.ready(u);
      }
      CHECK(optimizer.step().applied());
    }
    const auto mine = testing::parameters_of(optimizer);
    if (comm.rank() == 0) parameters = mine;
  });
  return parameters;
}

TEST_CASE("gathering units in a changing order, some twice, some never, changes no bit") {
  const auto expected = train_in_changing_order<Stage0>(1, true);
  at_every_stage([&]<class Stage> {
    for (const int prefetch : {0, 1, 3}) CHECK(train_in_changing_order<Stage>(prefetch, false) == expected);
  });
}

}  // namespace
}  // namespace tessera
