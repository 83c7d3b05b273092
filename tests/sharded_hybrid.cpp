// Hybrid sharding: parameters are sharded over groups of ranks, state over groups or the world. property.cpp tests it
// with every precision and the other rules.
#include <doctest/doctest.h>

#include <chrono>
#include <stdexcept>
#include <string>
#include <vector>

#include "training.hpp"

namespace tessera {
namespace {

using testing::Outcome;

template <class Stage>
using Optimizer = Sharded<Adam, Stage, Bf16, Recording<Local>>;

template <class Stage>
Outcome train(int world, const Options& options) {
  Outcome outcome;
  run_ranks(world, [&](Local& local) {
    Recording<Local> comm(local);
    Optimizer<Stage> optimizer(comm, testing::ragged_layout(), {}, std::vector<Adam>(2), options);
    optimizer.initialize(testing::made_up_weight);
    const Outcome mine = testing::run_steps(optimizer, comm.rank(), world, 3, options.micro_batches);
    CHECK(optimizer.bytes() == optimizer.plan().bytes());
    CHECK(optimizer.peak_bytes() == optimizer.plan().bytes());
    if (comm.rank() == 0) outcome = mine;
  });
  return outcome;
}

TEST_CASE("hybrid stages have the bits of stage 3 with every group size, and size 0 means one group") {
  for (const int world : {1, 4, 6}) {
    Options options{.micro_batches = 2, .clip_norm = 0.5, .bucket_bytes = 700, .check_weights = 1};
    const Outcome whole = train<Stage3>(world, options);
    for (int size = 0; size <= world; ++size) {
      if (size > 0 && world % size != 0) continue;
      CAPTURE(world);
      CAPTURE(size);
      options.group_size = size;
      CHECK(train<StageHybrid>(world, options) == whole);
      CHECK(train<StageHybridState>(world, options) == whole);
    }
  }
}

// The elements that rank 0 sends in the second step, within its group and to other groups.
struct Wire {
  index_t within_groups = 0;
  index_t between_groups = 0;
  index_t gathered_between_groups = 0;  // of parameters, for forward and backward
};

template <class Stage>
Wire wire_of_a_step(int world, int group_size, int passes) {
  Wire wire;
  const Layout layout = testing::even_layers(6);
  run_ranks(world, [&](Local& local) {
    Recording<Local> comm(local);
    const Options options{.micro_batches = passes, .bucket_bytes = 1, .prefetch = 1, .group_size = group_size};
    Optimizer<Stage> optimizer(comm, layout, {}, Adam{}, options);
    optimizer.initialize(testing::made_up_weight);
    for (int step = 0; step < 2; ++step) {
      comm.clear();
      for (int k = 0; k < passes; ++k) testing::run_pass(optimizer, step, k * world + comm.rank());
      optimizer.step();
    }
    if (comm.rank() != 0) return;
    for (const Record& record : comm.log()) {
      if (record.kind == Collective::all_reduce) continue;  // decides the step
      wire.between_groups += record.sent_between_groups;
      wire.within_groups += record.sent_elements - record.sent_between_groups;
      if (record.over == Ranks::group) wire.gathered_between_groups += record.sent_between_groups;
    }
  });
  return wire;
}

// n elements, K passes, N ranks in P groups of G. Gradients: per pass a rank sends n - n/N elements to their owners, of
// which n/P - n/N are in its group. Update: a rank sends the n/N elements that it owns to P - 1 peers. Gathers, as at
// stage 3: (2K - 1)(n - held) + n elements, within groups.
TEST_CASE("only gradients and updates cross groups: K (P-1)/P n + (P-1)/N n elements per rank") {
  const index_t n = testing::even_layers(6).parameters();
  for (const int world : {2, 4, 6})
    for (int size = 1; size <= world; ++size)
      for (const int passes : {1, 3}) {
        if (world % size != 0) continue;
        CAPTURE(world);
        CAPTURE(size);
        CAPTURE(passes);
        const index_t groups = world / size, held = 2 * n / 6;
        const index_t between = passes * (n - n / groups) + n / world * (groups - 1);
        const index_t gathered = (2 * passes - 1) * (n - held) + n;
        const index_t within = passes * (n / groups - n / world) + gathered / size * (size - 1);
        const auto check = [&](const Wire& wire) {
          CHECK(wire.between_groups == between);
          CHECK(wire.within_groups == within);
          CHECK(wire.gathered_between_groups == 0);
        };
        check(wire_of_a_step<StageHybrid>(world, size, passes));
        check(wire_of_a_step<StageHybridState>(world, size, passes));
      }
}

TEST_CASE("a rank holds 1/G of arrays that are sharded over groups of G, and 1/N of those sharded over the world") {
  const Layout layout = testing::even_layers(6);
  const index_t n = layout.parameters();
  const Options options{.bucket_bytes = 1, .group_size = 3};
  const Plan hybrid = Optimizer<StageHybrid>::plan(layout, 12, options);
  CHECK(hybrid.parameters.elements == n / 3);
  CHECK(hybrid.reduced_gradients.elements == n / 3);
  CHECK(hybrid.master_weights.elements == n / 3);
  CHECK(hybrid.optimizer_state.elements == n / 3);
  const Plan state = Optimizer<StageHybridState>::plan(layout, 12, options);
  CHECK(state.parameters.elements == n / 3);
  CHECK(state.reduced_gradients.elements == n / 12);
  CHECK(state.master_weights.elements == n / 12);
  CHECK(state.optimizer_state.elements == n / 12);
}

TEST_CASE("a group size that does not divide the world size is refused, on every rank and by the plan") {
  const char* const why = "options: 4 ranks do not divide into groups of group_size = 3";
  CHECK_THROWS_WITH_AS(static_cast<void>(Optimizer<StageHybrid>::plan(testing::even_layers(1), 4, {.group_size = 3})), why,
                       OptionError);
  CHECK_NOTHROW(static_cast<void>(Optimizer<Stage3>::plan(testing::even_layers(1), 4, {.group_size = 3})));
  CHECK_THROWS_WITH_AS(static_cast<void>(Optimizer<StageHybrid>::plan(testing::even_layers(1), 4, {.group_size = -1})),
                       doctest::Contains("group_size must not be negative"), OptionError);
  run_ranks(4, [&](Local& local) {
    Recording<Local> comm(local);
    const auto build = [&](int size) { Optimizer<StageHybrid>(comm, testing::even_layers(1), {}, Adam{}, {.group_size = size}); };
    CHECK_THROWS_WITH_AS(build(3), why, OptionError);
    CHECK_THROWS_WITH_AS(build(local.rank() == 2 ? 1 : 2), doctest::Contains("Options::group_size"), AgreementError);
    CHECK_NOTHROW(build(2));
  });
}

TEST_CASE("parameters of the caller that differ between peers are refused on every rank") {
  const Layout layout = testing::even_layers(2);
  const Options options{.group_size = 2};
  run_ranks(4, [&](Local& local) {
    Recording<Local> comm(local);
    const index_t elements = Optimizer<StageHybrid>::required(layout, 4, options).parameters;
    std::vector<bfloat16> parameters(static_cast<std::size_t>(elements), bfloat16(1.0f + local.rank() % 2));
    CHECK_NOTHROW(Optimizer<StageHybrid>(comm, layout, {.parameters = parameters}, Adam{}, options));
    if (local.rank() == 3) parameters[5] = bfloat16(7.0f);
    CHECK_THROWS_WITH_AS(Optimizer<StageHybrid>(comm, layout, {.parameters = parameters}, Adam{}, options),
                         doctest::Contains("Sharded(): ranks 1 and 3 hold the same part of the parameters"),
                         AgreementError);
  });
}

// The forward after an update fails on one rank before the other ranks have sent their parts of the update.
TEST_CASE("after a dropped step every peer has all parts of the previous update") {
  const Options options{.bucket_bytes = 700, .group_size = 1, .check_weights = 1};
  const Outcome undisturbed = train<StageHybridState>(3, options);
  Outcome disturbed;
  run_ranks(3, [&](Local& local) {
    Recording<Local> comm(local);
    Optimizer<StageHybridState> optimizer(comm, testing::ragged_layout(), {}, std::vector<Adam>(2), options);
    optimizer.initialize(testing::made_up_weight);
    Outcome mine;
    for (int step = 0; step < 3; ++step) {
      if (step > 0) {
        try {
          static_cast<void>(optimizer.gather(Unit{0}));
          if (local.rank() == step % 3) throw std::runtime_error("the caller's forward");
          static_cast<void>(optimizer.backward());
          throw std::runtime_error("its backward");
        } catch (const std::exception&) {
          optimizer.drop_step();
        }
      }
      testing::run_pass(optimizer, step, local.rank());
      const auto report = optimizer.step();
      mine.norms.push_back(report.gradient_norm());
      mine.applied.push_back(report.applied());
    }
    mine.parameters = testing::parameters_of(optimizer);
    if (local.rank() == 0) disturbed = mine;
  });
  CHECK(disturbed == undisturbed);
}

}  // namespace
}  // namespace tessera
