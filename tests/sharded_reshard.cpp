// A small checkpoint made of an optimizer's slices and control state. One stage and world size saves it, another loads
// it, and training continues with the bits of an uninterrupted run.
#include <doctest/doctest.h>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <map>
#include <mutex>
#include <span>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <vector>

#include "page.hpp"
#include "training.hpp"

namespace tessera {
namespace {

using doctest::Contains;
using testing::Outcome;
using testing::ragged_layout;

// [checkpoint]
template <class Rule>
struct Checkpoint {
  std::mutex mutex;  // ranks are threads here
  std::map<std::string, std::vector<std::byte>> files;
  tessera::ControlState<Rule> control;

  template <class Optimizer>
  void save(Optimizer& optimizer) {
    const tessera::Layout& layout = optimizer.layout();
    optimizer.for_each_owned_slice([&](auto slice) {
      const std::scoped_lock lock(mutex);
      auto& file = files[layout.name(slice.tensor) + "/" + slice.array];
      const auto bytes = std::as_bytes(slice.elements);
      const std::size_t size = sizeof(slice.elements[0]);
      file.resize(static_cast<std::size_t>(layout.elements(slice.tensor)) * size);
      std::memcpy(&file[static_cast<std::size_t>(slice.first) * size], bytes.data(), bytes.size());
    });
    const std::scoped_lock lock(mutex);
    control = optimizer.control_state();
  }

  template <class Optimizer>
  void load(Optimizer& optimizer) const {
    optimizer.set_control_state(control);
    optimizer.load_slices([&](auto slice) {
      const auto& file = files.at(optimizer.layout().name(slice.tensor) + "/" + slice.array);
      const auto bytes = std::as_writable_bytes(slice.elements);
      const std::size_t size = sizeof(slice.elements[0]);
      std::memcpy(bytes.data(), &file[static_cast<std::size_t>(slice.first) * size], bytes.size());
    });
  }
};
// [end]

TEST_CASE("the guide shows the checkpoint that is compiled here") {
  CHECK(testing::page_shows("docs/guide.md", "tests/sharded_reshard.cpp", "checkpoint"));
}

constexpr int leaves = 4;  // of a step, over all ranks

// The loss scale grows, and a gradient in step 3 that is not finite lowers it.
float gradient(index_t step, index_t leaf, Tensor tensor, index_t i) {
  if (step == 3 && leaf == 1 && tensor.index == 1 && i == 3) return std::numeric_limits<float>::infinity();
  return testing::made_up_gradient(step, leaf, tensor, i);
}

template <class Rule>
struct Run {
  int world = 1;
  index_t first = 0, last = 8;
  Checkpoint<Rule>* from = nullptr;
  Checkpoint<Rule>* to = nullptr;
  bool save_in_evaluation = false;
  std::uint64_t seed = 5;  // of a run from the start
};

template <class Rule, class Stage, class Precision>
Outcome train(const Run<Rule>& run, const Rule& rule) {
  Outcome outcome;
  const int passes = (leaves + run.world - 1) / run.world;
  run_ranks(run.world, [&](Local& comm) {
    Rule other = rule;
    if (run.from) other.lr = 123;  // the control state has the right one
    Sharded<Rule, Stage, Precision> optimizer(
        comm, ragged_layout(), {}, std::vector<Rule>(2, other),
        {.micro_batches = passes,
         .bucket_bytes = 700,
         .group_size = run.world % 2 == 0 ? run.world / 2 : 0,
         .loss_scale = {.initial = 256, .growth_interval = 2, .hysteresis = 2},
         .seed = run.from ? 99 : run.seed,
         .check_weights = 1});
    if (run.from) {
      run.from->load(optimizer);
      optimizer.end_evaluation();
    } else {
      optimizer.clip_norm() = 2;
      optimizer.initialize(testing::made_up_weight);
    }
    Outcome mine;
    for (index_t step = run.first; step < run.last; ++step) {
      optimizer.begin_step(leaves);
      for (int pass = 0; pass < passes; ++pass)
        testing::run_pass(optimizer, step, index_t{pass} * run.world + comm.rank(), gradient);
      const auto report = optimizer.step();
      mine.norms.push_back(report.applied() ? report.gradient_norm() : -1);
      mine.norms.push_back(report.loss_scale());
      mine.norms.push_back(static_cast<double>(report.step()));
      mine.applied.push_back(report.applied());
    }
    if (run.save_in_evaluation) optimizer.begin_evaluation();
    if (run.to) run.to->save(optimizer);
    optimizer.end_evaluation();
    mine.parameters = testing::parameters_of(optimizer);
    CHECK(optimizer.bytes() == optimizer.plan().bytes());
    if (comm.rank() == 0) outcome = mine;
  });
  return outcome;
}

Outcome behind(const Outcome& outcome, std::size_t step) {
  return {outcome.parameters,
          {outcome.norms.begin() + static_cast<std::ptrdiff_t>(3 * step), outcome.norms.end()},
          {outcome.applied.begin() + static_cast<std::ptrdiff_t>(step), outcome.applied.end()}};
}

// Saves with `world` ranks at stage From after every number of steps, and loads at stage To with another world size.
template <class Rule, class Precision, class From, class To>
void reshard(int world, int other_world, const Rule& rule, bool save_in_evaluation = false) {
  CAPTURE(Rule::name);
  CAPTURE(Precision::name);
  CAPTURE(From::name);
  CAPTURE(To::name);
  CAPTURE(world);
  CAPTURE(other_world);
  const Outcome undisturbed = train<Rule, From, Precision>({.world = world}, rule);
  CHECK(undisturbed.applied[3] == false);
  for (const index_t step : {1, 4}) {
    CAPTURE(step);
    Checkpoint<Rule> checkpoint;
    train<Rule, From, Precision>(
        {.world = world, .last = step, .to = &checkpoint, .save_in_evaluation = save_in_evaluation}, rule);
    const Outcome resumed =
        train<Rule, To, Precision>({.world = other_world, .first = step, .from = &checkpoint}, rule);
    CHECK(resumed == behind(undisturbed, static_cast<std::size_t>(step)));
  }
}

template <class Rule, class Precision>
void reshard_between_stages(const Rule& rule, bool save_in_evaluation = false) {
  reshard<Rule, Precision, Stage3, Stage0>(4, 3, rule, save_in_evaluation);
  reshard<Rule, Precision, Stage0, Stage3>(1, 5, rule, save_in_evaluation);
#ifdef TESSERA_FEW_POLICIES  // for a sanitizer (tests/CMakeLists.txt)
  if constexpr (std::is_same_v<Precision, Fp32>)
#endif
    reshard<Rule, Precision, Stage1, Stage2>(3, 2, rule, save_in_evaluation);
}

// Two groups, of other sizes.
template <class Rule, class Precision>
void reshard_between_groups(const Rule& rule, bool save_in_evaluation = false) {
  reshard<Rule, Precision, StageHybrid, StageHybridState>(4, 6, rule, save_in_evaluation);
  reshard<Rule, Precision, StageHybridState, StageHybrid>(6, 2, rule, save_in_evaluation);
  reshard<Rule, Precision, StageHybrid, Stage3>(6, 3, rule, save_in_evaluation);
}

TEST_CASE("what one stage and world saved, another goes on with as if nothing had been: Fp32") {
  reshard_between_stages<AdamW, Fp32>({.lr = 0.1, .weight_decay = 0.1});
}
TEST_CASE("training resumes with master weights: Bf16") { reshard_between_stages<AdamW, Bf16>({.lr = 0.1}); }
TEST_CASE("training resumes with remainders of master weights: Bf16Remainder") {
  reshard_between_stages<AdamW, Bf16Remainder>({.lr = 0.1});
}
TEST_CASE("training resumes with stochastic rounding, whose seed and step are saved: Bf16Stochastic") {
  reshard_between_stages<AdamW, Bf16Stochastic>({.lr = 0.1});
}
TEST_CASE("training resumes with a loss scale in the middle of its growth: Fp16") {
  reshard_between_stages<AdamW, Fp16>({.lr = 0.1});
  reshard_between_groups<AdamW, Fp16>({.lr = 0.1});
}
TEST_CASE("training resumes with norms of whole tensors: Lamb") {
  reshard_between_stages<Lamb, Fp32>({.lr = 0.1});
  reshard_between_stages<Lamb, Bf16>({.lr = 0.1});
  reshard_between_groups<Lamb, Bf16>({.lr = 0.1});
}
TEST_CASE("training resumes with a buffer that the first step fills: Sgd") {
  reshard_between_stages<Sgd, Fp32>({.lr = 0.1, .momentum = 0.9, .dampening = 0.5});
}
TEST_CASE("training resumes with trained and evaluation weights: ScheduleFreeAdamW") {
  reshard_between_stages<ScheduleFreeAdamW, Fp32>({.lr = 0.1});
  reshard_between_stages<ScheduleFreeAdamW, Bf16Remainder>({.lr = 0.1});
}
TEST_CASE("a run saved during evaluation resumes in evaluation, whose end restores the trained weights") {
  reshard_between_stages<ScheduleFreeAdamW, Fp32>({.lr = 0.1}, true);
  reshard_between_groups<ScheduleFreeAdamW, Fp32>({.lr = 0.1}, true);
  reshard_between_stages<ScheduleFreeAdamW, Bf16>({.lr = 0.1}, true);
  reshard_between_stages<ScheduleFreeAdamW, Bf16Stochastic>({.lr = 0.1}, true);
  reshard_between_stages<AdamW, Fp32>({.lr = 0.1}, true);
}

// Calls f(optimizer, checkpoint, rank) on two ranks, with a checkpoint after one step.
template <class Rule, class Stage, class F>
void with_checkpoint(const Rule& rule, F f) {
  Checkpoint<Rule> checkpoint;
  train<Rule, Stage, Fp32>({.world = 2, .last = 1, .to = &checkpoint}, rule);
  run_ranks(2, [&](Local& comm) {
    Sharded<Rule, Stage> optimizer(comm, ragged_layout(), {}, std::vector<Rule>(2, rule), {.micro_batches = 2});
    f(optimizer, checkpoint, comm.rank());
  });
}

template <class Optimizer, class Rule>
void check_it_trains(Optimizer& optimizer, const Checkpoint<Rule>& checkpoint, int rank) {
  checkpoint.load(optimizer);
  CHECK(optimizer.steps() == 1);
  CHECK(testing::run_steps(optimizer, rank, 2, 1, 2).applied[0]);
}

TEST_CASE("a load that fails on one rank fails on all ranks, leaves no weights, and can be repeated") {
  with_checkpoint<AdamW, Stage2>({}, [](auto& optimizer, const auto& checkpoint, int rank) {
    const auto load = [&] {
      optimizer.load_slices([&](auto) {
        if (rank == 1) throw std::runtime_error("no such file");
      });
    };
    if (rank == 1)
      CHECK_THROWS_WITH_AS(load(), "no such file", std::runtime_error);
    else
      CHECK_THROWS_WITH_AS(load(), Contains("load_slices(): rank 1 failed"), PeerError);
    CHECK_THROWS_WITH_AS(static_cast<void>(optimizer.gather(Unit{0})), Contains("before the first weights"),
                         UsageError);
    check_it_trains(optimizer, checkpoint, rank);
  });
}

template <class Stage>
void load_apart(const char* array, const char* what) {
  with_checkpoint<AdamW, Stage>({}, [&](auto& optimizer, const auto& checkpoint, int rank) {
    const auto load = [&] {
      optimizer.load_slices([&](auto slice) {
        for (auto& element : slice.elements)
          element = rank == 1 && slice.tensor.index == 2 && std::string(slice.array) == array ? 2.0f : 1.0f;
      });
    };
    CHECK_THROWS_WITH_AS(load(), Contains(what), AgreementError);
    CHECK_THROWS_AS(static_cast<void>(optimizer.gather(Unit{0})), UsageError);
    check_it_trains(optimizer, checkpoint, rank);
  });
}

TEST_CASE("ranks that load different values into an array that all ranks hold get an error") {
  load_apart<Stage1>("parameter", "load_slices(): ranks differ in the parameters of 'body.bias'");
  load_apart<Stage0>("exp_avg_sq", "ranks differ in the master weights or optimizer state of 'body.bias'");
}

TEST_CASE("ranks that set different control states get an error that says in what they differ, and none changes") {
  with_checkpoint<AdamW, Stage3>({}, [](auto& optimizer, const auto& checkpoint, int rank) {
    auto state = checkpoint.control;
    state.seed += static_cast<std::uint64_t>(rank);
    CHECK_THROWS_WITH_AS(optimizer.set_control_state(state),
                         Contains("ranks differ in ControlState::seed: rank 0 has 5, rank 1 has 6"), AgreementError);
    state = checkpoint.control;
    if (rank == 1) state.first_rules.clear();
    CHECK_THROWS_WITH_AS(optimizer.set_control_state(state), Contains("ranks differ in the number of rules"),
                         AgreementError);
    CHECK(optimizer.control_state().seed == 0);
    CHECK(optimizer.steps() == 0);
    check_it_trains(optimizer, checkpoint, rank);
  });
}

TEST_CASE("a control state that does not fit this optimizer is refused on every rank, and nothing changes") {
  with_checkpoint<ScheduleFreeAdamW, Stage1>({}, [](auto& optimizer, const auto& checkpoint, int rank) {
    auto state = checkpoint.control;
    state.rules[1].beta1 = 0.5;
    CHECK_THROWS_WITH_AS(optimizer.set_control_state(state), Contains("beta1 is 0.5, was 0.9"), OptionError);
    state = checkpoint.control;
    state.attempts = 0;
    CHECK_THROWS_WITH_AS(optimizer.set_control_state(state), Contains("attempts must be at least"), OptionError);
    CHECK(optimizer.steps() == 0);
    check_it_trains(optimizer, checkpoint, rank);
  });
}

TEST_CASE("after setting the control state of an evaluation there are no weights until slices are loaded") {
  with_checkpoint<ScheduleFreeAdamW, Stage1>({}, [](auto& optimizer, const auto& checkpoint, int rank) {
    optimizer.initialize(testing::made_up_weight);
    auto state = checkpoint.control;
    ++state.evaluation_changes;
    optimizer.set_control_state(state);
    CHECK_THROWS_AS(static_cast<void>(optimizer.gather(Unit{0})), UsageError);
    CHECK_THROWS_AS(optimizer.for_each_owned_slice([](auto) {}), UsageError);
    bool trained = false;
    optimizer.load_slices([&](auto slice) { trained = trained || std::string(slice.array) == "trained"; });
    CHECK(trained);
    CHECK_NOTHROW(static_cast<void>(optimizer.gather(Unit{0})));
    optimizer.end_evaluation();
    check_it_trains(optimizer, checkpoint, rank);
  });
}

TEST_CASE("slices and control state are available between steps only") {
  with_checkpoint<AdamW, Stage1>({}, [](auto& optimizer, const auto& checkpoint, int rank) {
    checkpoint.load(optimizer);
    testing::run_pass(optimizer, 0, rank);
    CHECK_THROWS_WITH_AS(optimizer.for_each_held_slice([](auto) {}),
                         Contains("for_each_held_slice() in the middle of a step"), UsageError);
    CHECK_THROWS_AS(optimizer.for_each_owned_slice([](auto) {}), UsageError);
    CHECK_THROWS_AS(optimizer.load_slices([](auto) {}), UsageError);
    CHECK_THROWS_AS(static_cast<void>(optimizer.control_state()), UsageError);
    CHECK_THROWS_AS(optimizer.set_control_state(checkpoint.control), UsageError);
    testing::run_pass(optimizer, 0, 2 + rank);
    optimizer.step();
    optimizer.for_each_held_slice([](auto slice) { CHECK(!slice.elements.empty()); });
  });
}

}  // namespace
}  // namespace tessera
