#include <doctest/doctest.h>

#include <bit>
#include <cstdint>
#include <string>
#include <type_traits>
#include <vector>

#include "reference/reference.hpp"
#include "training.hpp"

namespace tessera::engine {
namespace {

constexpr int steps = 3, micro_batches = 4;
const ScheduleFreeAdamW rule{.lr = 0.1, .weight_decay = 0.1, .warmup_steps = 2};

struct Seen {
  std::vector<float> evaluated, trained;  // bits of the parameters: after `steps` steps, and after one more
  friend bool operator==(const Seen&, const Seen&) = default;
};

// Evaluates `evaluations` times during training.
template <class Stage, class Precision>
Seen train(int world, int evaluations = 1) {
  Seen of_first;
  run_ranks(world, [&](Local& comm) {
    Seen seen;
    Sharded<ScheduleFreeAdamW, Stage, Precision> optimizer(
        comm, testing::ragged_layout(), {}, {rule, rule},
        {.micro_batches = micro_batches / world, .bucket_bytes = 1000});
    optimizer.initialize(testing::made_up_weight);
    testing::run_steps(optimizer, comm.rank(), world, steps, micro_batches / world);
    const std::vector<float> before = testing::parameters_of(optimizer);
    for (int i = 0; i < evaluations; ++i) {
      optimizer.begin_evaluation();
      optimizer.begin_evaluation();  // a second call has no effect
      if (i % 100 == 0) seen.evaluated = testing::parameters_of(optimizer);
      optimizer.end_evaluation();
    }
    optimizer.end_evaluation();
    CHECK(testing::parameters_of(optimizer) == before);
    CHECK(optimizer.bytes() == optimizer.plan().bytes());
    seen.trained = testing::run_steps(optimizer, comm.rank(), world, 1, micro_batches / world).parameters;
    if (comm.rank() == 0) of_first = seen;
  });
  return of_first;
}

Seen expected(reference::Precision precision) {
  const Layout layout = testing::ragged_layout();
  reference::Problem problem;
  problem.precision = precision;
  problem.loss_scale.scale = 65536;
  problem.rules = {{.kind = reference::Kind::schedule_free, .lr = 0.1, .weight_decay = 0.1, .warmup_steps = 2}};
  for (const Unit u : layout.forward()) {
    problem.unit_sizes.push_back(0);
    for (const Tensor t : layout.tensors(u))
      for (index_t i = 0; i < (layout.frozen(t) ? 0 : layout.elements(t)); ++i) {
        problem.weights.push_back(testing::made_up_weight(t, i));
        problem.places.push_back(static_cast<std::uint64_t>(layout.offset(t) + i));
        ++problem.unit_sizes.back();
      }
  }
  reference::Trainer trainer(problem);
  const auto step = [&](index_t number) {
    std::vector<reference::Floats> leaves(micro_batches);
    for (index_t leaf = 0; leaf < micro_batches; ++leaf)
      for (const Tensor t : layout.tensors())
        for (index_t i = 0; i < (layout.frozen(t) ? 0 : layout.elements(t)); ++i)
          leaves[leaf].push_back(trainer.leaf(testing::made_up_gradient(number, leaf, t, i)));
    trainer.step(leaves);
  };
  const auto parameters = [&](const reference::Floats& trainable) {
    std::vector<float> all;
    std::size_t next = 0;
    for (const Tensor t : layout.tensors())
      for (index_t i = 0; i < layout.elements(t); ++i)
        all.push_back(layout.frozen(t) ? trainer.first_parameter(testing::made_up_weight(t, i)) : trainable[next++]);
    return all;
  };
  Seen seen;
  for (int number = 0; number < steps; ++number) step(number);
  seen.evaluated = parameters(trainer.evaluation());
  step(0);
  seen.trained = parameters(trainer.parameter);
  return seen;
}

// The reference trains without evaluation.
template <class Precision>
void check_all_stages(reference::Precision precision) {
  const Seen as_expected = expected(precision);
  CHECK(as_expected.evaluated != as_expected.trained);
  for (const int world : {1, 2, 4}) {
    CAPTURE(Precision::name);
    CAPTURE(world);
    CHECK(train<Stage1, Precision>(world) == as_expected);
    CHECK(train<Stage3, Precision>(world) == as_expected);
#ifdef TESSERA_FEW_POLICIES  // for a sanitizer (tests/CMakeLists.txt)
    if constexpr (std::is_same_v<Precision, Fp32>)
#endif
    {
      CHECK(train<Stage0, Precision>(world) == as_expected);
      CHECK(train<Stage2, Precision>(world) == as_expected);
    }
  }
  for (const int evaluations : {0, 1000}) {
    CAPTURE(evaluations);
    CHECK(train<Stage1, Precision>(2, evaluations).trained == as_expected.trained);
    CHECK(train<Stage3, Precision>(2, evaluations).trained == as_expected.trained);
  }
}

TEST_CASE("evaluated weights equal the reference's, and training continues as without evaluation: Fp32") {
  check_all_stages<Fp32>(reference::Precision::fp32);
}

TEST_CASE("evaluated weights equal the reference's with master weights beside the parameters") {
  check_all_stages<Bf16>(reference::Precision::bf16);
  check_all_stages<Fp16>(reference::Precision::fp16);
}

TEST_CASE("evaluated weights equal the reference's with remainders beside the parameters") {
  check_all_stages<Bf16Remainder>(reference::Precision::bf16_remainder);
}

TEST_CASE("evaluated weights equal the reference's with stochastic rounding and nothing beside the parameters") {
  check_all_stages<Bf16Stochastic>(reference::Precision::bf16_stochastic);
}

Layout one_tensor() {
  Layout layout;
  layout.add_unit("a");
  layout.add_tensor("w", {5});
  return layout;
}

TEST_CASE("a rule without evaluation weights evaluates its trained weights, with the same calls") {
  Self self;
  Sharded<AdamW, Stage0, Fp32, Self> optimizer(self, one_tensor(), {}, AdamW{});
  optimizer.initialize(testing::made_up_weight);
  testing::run_steps(optimizer, 0, 1, 1, 1);
  const std::vector<float> before = testing::parameters_of(optimizer);
  optimizer.begin_evaluation();
  CHECK(testing::parameters_of(optimizer) == before);
  optimizer.end_evaluation();
  CHECK(testing::parameters_of(optimizer) == before);
}

TEST_CASE("training calls are refused during evaluation, and evaluation is refused in the middle of a step") {
  Self self;
  Sharded<AdamW, Stage0, Fp32, Self> optimizer(self, one_tensor(), {}, AdamW{}, {.micro_batches = 2});
  optimizer.initialize(testing::made_up_weight);
  optimizer.begin_evaluation();
  CHECK_THROWS_WITH_AS(static_cast<void>(optimizer.backward()),
                       "backward() during evaluation: call end_evaluation() first", UsageError);
  CHECK_THROWS_WITH_AS(optimizer.initialize(testing::made_up_weight),
                       "initialize() during evaluation: call end_evaluation() first", UsageError);
  optimizer.end_evaluation();
  testing::run_pass(optimizer, 0, 0);
  CHECK_THROWS_WITH_AS(optimizer.begin_evaluation(), "begin_evaluation() in the middle of a step", UsageError);
  testing::run_pass(optimizer, 0, 1);
  CHECK(optimizer.step().applied());
}

TEST_CASE("a beta1 that changes during evaluation does not affect its end, and all later calls refuse it") {
  std::vector<std::vector<std::string>> errors(2);
  run_ranks(2, [&](Local& comm) {
    Sharded<ScheduleFreeAdamW, Stage2> optimizer(comm, one_tensor(), {}, rule);
    optimizer.initialize(testing::made_up_weight);
    testing::run_steps(optimizer, comm.rank(), 2, 3, 1);
    const std::vector<float> trained = testing::parameters_of(optimizer);
    optimizer.begin_evaluation();
    const std::vector<float> evaluated = testing::parameters_of(optimizer);
    CHECK(evaluated != trained);
    optimizer.rule().beta1 = 0.5;
    optimizer.end_evaluation();
    CHECK(testing::parameters_of(optimizer) == trained);
    const auto refused = [&](auto call) {
      try {
        call();
      } catch (const OptionError& error) {
        errors[comm.rank()].push_back(error.what());
      }
    };
    refused([&] { optimizer.begin_evaluation(); });
    CHECK(testing::parameters_of(optimizer) == trained);
    testing::run_pass(optimizer, 3, comm.rank());
    refused([&] { static_cast<void>(optimizer.step()); });
    CHECK(testing::parameters_of(optimizer) == trained);
    optimizer.rule().beta1 = rule.beta1;
    CHECK(optimizer.step().applied());
    CHECK(testing::parameters_of(optimizer) != trained);
  });
  for (const auto& of_rank : errors) {
    CHECK(of_rank.size() == 2);
    for (const std::string& error : of_rank) CHECK(error.find("beta1 is 0.5, was 0.9") != std::string::npos);
  }
}

TEST_CASE("a rank that alone evaluated is found in the next step") {
  std::vector<std::string> errors(2);
  run_ranks(2, [&](Local& comm) {
    Sharded<ScheduleFreeAdamW, Stage0> optimizer(comm, one_tensor(), {}, rule);
    optimizer.initialize(testing::made_up_weight);
    testing::run_steps(optimizer, comm.rank(), 2, 1, 1);
    if (comm.rank() == 1) {
      optimizer.begin_evaluation();
      optimizer.end_evaluation();
    }
    try {
      testing::run_steps(optimizer, comm.rank(), 2, 1, 1);
    } catch (const AgreementError& error) {
      errors[comm.rank()] = error.what();
    }
  });
  for (const std::string& error : errors) CHECK(error.find("rank 1") != std::string::npos);
}

}  // namespace
}  // namespace tessera::engine
