#include <doctest/doctest.h>

#include <string>
#include <type_traits>
#include <vector>

#include "training.hpp"

namespace tessera::engine {
namespace {

using doctest::Contains;
using testing::ragged_layout;

// The caller's memory for one rank: its shard at stage 3, and the offsets of the tensors' elements in it.
template <class Optimizer, class Stage>
struct OwnWeights {
  using Parameter = typename Optimizer::Parameter;

  Layout layout;
  Sharding sharding;
  int rank;
  std::vector<Parameter> memory;

  OwnWeights(const Layout& of, const Local& comm, const Options& options)
      : layout(of),
        sharding(of, comm.size(), options.bucket_bytes / static_cast<index_t>(sizeof(typename Optimizer::Gradient))),
        rank(comm.rank()),
        memory(static_cast<std::size_t>(Optimizer::required(of, comm.size(), options).parameters)) {}

  template <class Value>
  void write(Value value) {
    for (int b = 0; b < sharding.buckets(); ++b)
      for (int s = 0; s < layout.spaces(); ++s) {
        const layout::Partition& parts = sharding.partition();
        const int p = sharding.piece(b, s);
        const Range held = Stage::shards_parameters ? parts.owned(p, rank) : parts.range(p);
        const index_t begin = Stage::shards_parameters ? parts.shard_begin(p) - held.begin : 0;
        sharding.for_each_run(b, s, held, [&](Tensor t, index_t first, Range run) {
          for (index_t i = 0; i < run.size(); ++i)
            memory[static_cast<std::size_t>(begin + run.begin + i)] = Parameter(value(t, first + i));
        });
      }
  }
};

float other_weight(Tensor t, index_t i) { return 3 * testing::made_up_weight(t, i + 1); }

constexpr Options options{
    .bucket_bytes = 1000, .loss_scale = {.initial = 256}, .check_weights = 1, .check_gradients = true};

// Calls check(stage) for each stage; for a sanitizer (tests/CMakeLists.txt) all of them with Fp32 alone, and otherwise one
// where parameters and state are replicated and one where they are sharded.
template <class Precision, class Check>
void at_every_stage(const Check& check) {
  check(Stage0{});
#ifdef TESSERA_FEW_POLICIES
  if constexpr (std::is_same_v<Precision, Fp32>)
#endif
  {
    check(Stage1{});
    check(Stage2{});
  }
  check(Stage3{});
}

// Calls f(optimizer, weights, rank) on each of `world` ranks, with parameters in the caller's memory.
template <class Rule, class Stage, class Precision, class F>
void run_own(int world, const Rule& rule, F f) {
  const Layout layout = ragged_layout();
  run_ranks(world, [&](Local& comm) {
    using Optimizer = Sharded<Rule, Stage, Precision>;
    OwnWeights<Optimizer, Stage> weights(layout, comm, options);
    weights.write(testing::made_up_weight);
    Optimizer optimizer(comm, layout, {.parameters = weights.memory}, std::vector<Rule>(2, rule), options);
    f(optimizer, weights, comm.rank());
  });
}

template <class Stage, class Precision>
testing::Outcome outcome_of(bool afterwards) {
  testing::Outcome outcome;
  run_own<Adam, Stage, Precision>(2, Adam{.lr = 0.1}, [&](auto& optimizer, auto& weights, int rank) {
    if (afterwards) testing::run_steps(optimizer, rank, 2, 3, 1);
    optimizer.finish();
    weights.write(other_weight);
    optimizer.take_parameters({.clear_state = afterwards});
    CHECK(optimizer.steps() == 0);
    const auto mine = testing::run_steps(optimizer, rank, 2, 3, 1);
    if (rank == 0) outcome = mine;
  });
  return outcome;
}

// The result of an optimizer that was built with these weights.
template <class Stage, class Precision>
testing::Outcome outcome_of_new() {
  testing::Outcome outcome;
  run_ranks(2, [&](Local& comm) {
    using Optimizer = Sharded<Adam, Stage, Precision>;
    OwnWeights<Optimizer, Stage> weights(ragged_layout(), comm, options);
    weights.write(other_weight);
    Optimizer optimizer(comm, ragged_layout(), {.parameters = weights.memory}, std::vector<Adam>(2, Adam{.lr = 0.1}),
                        options);
    const auto mine = testing::run_steps(optimizer, comm.rank(), 2, 3, 1);
    if (comm.rank() == 0) outcome = mine;
  });
  return outcome;
}

TEST_CASE_TEMPLATE("weights taken with cleared state are trained as by a new optimizer",
                   Precision, Fp32, Bf16, Bf16Remainder, Bf16Stochastic, Fp16) {
  const testing::Outcome expected = outcome_of_new<Stage0, Precision>();
  const auto check = [&]<class Stage>(Stage) {
    INFO(std::string(Stage::name));
    CHECK(outcome_of<Stage, Precision>(false) == expected);
    CHECK(outcome_of<Stage, Precision>(true) == expected);
  };
  at_every_stage<Precision>(check);
}

TEST_CASE_TEMPLATE("weights taken without clearing keep momentum and step count, at every precision", Precision, Fp32,
                   Bf16, Bf16Remainder, Bf16Stochastic, Fp16) {
  const auto check = [&]<class Stage>(Stage) {
    INFO(std::string(Stage::name));
    run_own<Sgd, Stage, Precision>(2, Sgd{.lr = 4, .momentum = 0.5}, [](auto& optimizer, auto& weights, int rank) {
      const auto quarter = [](index_t, index_t, Tensor, index_t) { return 0.25f; };
      testing::run_steps(optimizer, rank, 2, 1, 1, quarter);
      optimizer.finish();
      weights.write([](Tensor, index_t) { return 5.0f; });
      optimizer.take_parameters();
      testing::run_steps(optimizer, rank, 2, 1, 1, quarter);
      CHECK(optimizer.steps() == 2);
      std::vector<float> expected;  // 5 - 4 (0.5 * 0.25 + 0.25)
      for (const Tensor t : optimizer.layout().tensors())
        expected.insert(expected.end(), static_cast<std::size_t>(optimizer.layout().elements(t)),
                        optimizer.layout().frozen(t) ? 5.0f : 3.5f);
      CHECK(testing::parameters_of(optimizer) == expected);
    });
  };
  at_every_stage<Precision>(check);
}

TEST_CASE("ranks that take different weights get an error, and have no weights until they take the same") {
  const auto check = [&]<class Stage>(Stage) {
    run_own<Adam, Stage, Bf16>(3, Adam{}, [](auto& optimizer, auto& weights, int rank) {
      const Tensor other = optimizer.layout().find("head.bias");
      weights.write([&](Tensor t, index_t i) { return rank == 2 && t == other && i == 4 ? 9.0f : other_weight(t, i); });
      CHECK_THROWS_WITH_AS(optimizer.take_parameters(),
                           Contains("take_parameters(): ranks differ in the parameters of 'head.bias': rank 0 has"),
                           AgreementError);
      CHECK_THROWS_WITH_AS(static_cast<void>(optimizer.gather(Unit{0})), Contains("before the first weights"),
                           UsageError);
      weights.write(other_weight);
      optimizer.take_parameters();
      CHECK(testing::run_steps(optimizer, rank, 3, 1, 1).applied[0]);
    });
  };
  check(Stage0{});
  check(Stage1{});
  check(Stage2{});
}

TEST_CASE("a rank that alone clears its state is found at every stage") {
  const auto check = [&]<class Stage>(Stage) {
    run_own<Adam, Stage, Fp32>(2, Adam{}, [](auto& optimizer, auto&, int rank) {
      CHECK_THROWS_WITH_AS(optimizer.take_parameters({.clear_state = rank == 1}),
                           Contains("clear_state is false on rank 0 and true on rank 1"), AgreementError);
      optimizer.take_parameters();
      CHECK(testing::run_steps(optimizer, rank, 2, 1, 1).applied[0]);
    });
  };
  check(Stage0{});
  check(Stage3{});
}

TEST_CASE("weights can be taken from a caller's buffer after finish and between steps") {
  Self self;
  const Layout layout = ragged_layout();
  std::vector<float> memory(static_cast<std::size_t>(layout.parameter_elements()));
  const std::vector<ScheduleFreeAdamW> rules(2);
  Sharded<ScheduleFreeAdamW, Stage1, Fp32, Self> without(self, layout, {}, rules);
  CHECK_THROWS_WITH_AS(without.take_parameters(), Contains("without a buffer of the caller's"), UsageError);
  Sharded<ScheduleFreeAdamW, Stage1, Fp32, Self> own(self, layout, {.parameters = memory}, rules, {.micro_batches = 2});
  testing::run_pass(own, 0, 0);
  CHECK_THROWS_WITH_AS(own.take_parameters(), Contains("take_parameters() in the middle of a step"), UsageError);
  testing::run_pass(own, 0, 1);
  CHECK(own.step().applied());
  CHECK_THROWS_WITH_AS(own.take_parameters(), Contains("call finish(), then write"), UsageError);
  own.begin_evaluation();
  own.finish();
  CHECK_THROWS_WITH_AS(own.take_parameters(), Contains("take_parameters() during evaluation"), UsageError);
  own.end_evaluation();
  own.finish();
  CHECK_NOTHROW(own.take_parameters());
}

TEST_CASE("ranks that initialize with different functions get an error before anything is written") {
  const auto check = [&]<class Stage>(Stage) {
    run_own<Adam, Stage, Bf16>(3, Adam{}, [](auto& optimizer, auto&, int rank) {
      const auto before = testing::parameters_of(optimizer);
      const Tensor other = optimizer.layout().find("body.weight");
      CHECK_THROWS_WITH_AS(
          optimizer.initialize([&](Tensor t, index_t i) {
            return other_weight(t, i) + (rank == 1 && t.index >= other.index ? 1.0f : 0.0f);
          }),
          Contains("initialize(): ranks differ in the first weights of 'body.weight': rank 0 has digest"),
          AgreementError);
      CHECK(testing::parameters_of(optimizer) == before);
      CHECK(testing::run_steps(optimizer, rank, 3, 1, 1).applied[0]);
    });
  };
  check(Stage0{});
  check(Stage1{});
  check(Stage2{});
  check(Stage3{});
}

TEST_CASE("an initial weight that differs in one element is found if parameters are replicated, and none remain") {
  const auto check = [&]<class Stage>(Stage) {
    run_own<Adam, Stage, Fp32>(2, Adam{}, [](auto& optimizer, auto&, int rank) {
      const Tensor other = optimizer.layout().find("body.weight");
      CHECK_THROWS_WITH_AS(
          optimizer.initialize([&](Tensor t, index_t i) {
            return other_weight(t, i) + (rank == 1 && t == other && i == 17 ? 1.0f : 0.0f);
          }),
          Contains("initialize(): ranks differ in the parameters of 'body.weight'"), AgreementError);
      CHECK_THROWS_AS(static_cast<void>(optimizer.backward()), UsageError);
      optimizer.initialize(other_weight);
      CHECK(testing::run_steps(optimizer, rank, 2, 1, 1).applied[0]);
    });
  };
  check(Stage0{});
  check(Stage1{});
  check(Stage2{});
}

// Returns each rank's error message; the messages are the same on all ranks.
template <class F>
std::string error_of(int world, F f) {
  std::vector<std::string> errors(static_cast<std::size_t>(world));
  run_ranks(world, [&](Local& comm) {
    try {
      f(comm);
    } catch (const Error& error) {
      errors[static_cast<std::size_t>(comm.rank())] = error.what();
    }
  });
  for (const std::string& error : errors) CHECK(error == errors[0]);
  return errors[0];
}

TEST_CASE("before the initial weights, calls that need weights are refused at every stage, and afterwards they work") {
  const auto check = [&]<class Stage>(Stage) {
    const Layout layout = ragged_layout();
    run_ranks(2, [&](Local& comm) {
      Sharded<Adam, Stage, Bf16> optimizer(comm, layout, {}, std::vector<Adam>(2));
      const char* const why = "before the first weights: call initialize(), or hand in {.parameters = p}";
      CHECK_THROWS_WITH_AS(static_cast<void>(optimizer.gather(Unit{1})), Contains(why), UsageError);
      CHECK_THROWS_WITH_AS(static_cast<void>(optimizer.backward()), Contains(why), UsageError);
      CHECK_THROWS_WITH_AS(static_cast<void>(optimizer.step()), Contains(why), UsageError);
      CHECK_THROWS_WITH_AS(optimizer.begin_evaluation(), Contains(why), UsageError);
      CHECK_NOTHROW(optimizer.finish());
      optimizer.initialize(testing::made_up_weight);
      CHECK(testing::run_steps(optimizer, comm.rank(), 2, 1, 1).applied[0]);
    });
  };
  check(Stage0{});
  check(Stage1{});
  check(Stage2{});
  check(Stage3{});
  Self self;
  std::vector<float> g(10);
  Sharded<Adam, Stage1, Fp32, Self> flat(self, Layout::flat(10), {.gradients = g}, Adam{});
  CHECK_THROWS_WITH_AS(static_cast<void>(flat.gather(0, 10)), Contains("before the first weights"), UsageError);
}

TEST_CASE("all ranks report a parameter buffer that was written without take_parameters(), at every precision") {
  const auto check = [&]<class Stage, class Precision>(Stage, Precision) {
    CHECK(error_of(2, [&](Local& comm) {
            using Optimizer = Sharded<Adam, Stage, Precision>;
            OwnWeights<Optimizer, Stage> weights(ragged_layout(), comm, options);
            weights.write(testing::made_up_weight);
            Optimizer optimizer(comm, ragged_layout(), {.parameters = weights.memory}, std::vector<Adam>(2), options);
            testing::run_steps(optimizer, comm.rank(), 2, 2, 1);
            optimizer.finish();
            if (comm.rank() == 1) weights.write(other_weight);
            testing::run_steps(optimizer, comm.rank(), 2, 1, 1);
          }).starts_with("the parameter buffer of rank 1 was written"));
  };
  check(Stage0{}, Bf16{});
  check(Stage1{}, Fp32{});
  check(Stage2{}, Bf16Remainder{});
  check(Stage3{}, Fp16{});
  run_own<Adam, Stage1, Bf16>(2, Adam{}, [](auto& optimizer, auto& weights, int rank) {
    weights.write(other_weight);
    CHECK_THROWS_AS(static_cast<void>(optimizer.backward()), UsageError);
    optimizer.take_parameters();  // no part of the step was done
    CHECK(testing::run_steps(optimizer, rank, 2, 1, 1).applied[0]);
  });
}

TEST_CASE("ranks whose weights differ get an error within the requested number of steps") {
  const auto check = [&]<class Stage>(Stage) {
    const std::string error = error_of(2, [&](Local& comm) {
      using Optimizer = Sharded<Adam, Stage>;
      const Options every_third{.check_weights = 3};
      OwnWeights<Optimizer, Stage> weights(ragged_layout(), comm, every_third);
      weights.write(testing::made_up_weight);
      Optimizer optimizer(comm, ragged_layout(), {.parameters = weights.memory}, std::vector<Adam>(2), every_third);
      testing::run_steps(optimizer, comm.rank(), 2, 1, 1);
      optimizer.finish();
      const Tensor frozen = optimizer.layout().find("body.running");
      if (comm.rank() == 1) weights.memory[static_cast<std::size_t>(optimizer.layout().offset(frozen))] = 7;
      testing::run_steps(optimizer, comm.rank(), 2, 2, 1);
      CHECK(optimizer.steps() == 3);
      testing::run_steps(optimizer, comm.rank(), 2, 1, 1);
    });
    CHECK(error.starts_with("Options::check_weights: ranks differ in the parameters of 'body.running': rank 0 has"));
  };
  check(Stage0{});
  check(Stage1{});
  check(Stage2{});
}

}  // namespace
}  // namespace tessera::engine
