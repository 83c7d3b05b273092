#include <doctest/doctest.h>

#include <algorithm>
#include <chrono>
#include <vector>

#include <tessera/comm/local/local.hpp>
#include <tessera/comm/decorators/recording.hpp>
#include <tessera/comm/self.hpp>
#include <tessera/engine/build/composition.hpp>
#include <tessera/engine/memory/reduce.hpp>
#include <tessera/precision/precision.hpp>
#include <tessera/rule/sgd.hpp>
#include <tessera/stage/stage.hpp>

#include "drops_first.hpp"
#include "native.hpp"
#include "needs_workspace.hpp"
#include "reference/reference.hpp"
#include "training.hpp"

namespace tessera::engine {
namespace {

using testing::Native;
using testing::NeedsWorkspace;

constexpr index_t n = 200;

index_t not_of_reduce(const Plan& plan) {
  return plan.parameters.bytes() + plan.master_weights.bytes() + plan.optimizer_state.bytes() +
         plan.gathered_buckets.bytes() + plan.agreement.bytes() + plan.tensor_norms.bytes() +
         plan.step_numbers.bytes() + plan.step_rules.bytes();
}

// All ranks' parts of the sum over `world` ranks and `passes` passes of gradients up to `size`, combined.
template <class Stage, class Precision, class Comm = Local>
std::vector<float> reduced(int world, int passes, float size = 1) {
  std::vector<float> all(n);
  Layout layout;
  layout.add_unit("only");
  layout.add_tensor("w", {n});
  run_ranks(world, [&](Local& local) {
    Comm comm(local);
    const Sharding sharding(layout, world, 1000);
    Host host;
    auto queue = comm.queue(std::chrono::seconds(10));
    const Plan plan = layout::make_plan(sharding, {.micro_batches = passes},
                                footprint_of<Sgd, Stage, Precision>(sums_of<Comm, Precision>()));
    Reduce<Comm, Stage, Precision> reduce(sharding, comm.rank(), host, queue, plan, index_t{passes} * world, {});
    CHECK(host.allocated_bytes() == plan.bytes() - not_of_reduce(plan));
    const testing::DropsFirst drops_first(queue);
    for (int k = 0; k < passes; ++k) {
      const auto leaf = reduce.open(Unit{0}, true).trainable();
      const int j = k * world + comm.rank();
      for (index_t i = 0; i < n; ++i)
        leaf[i] = typename Precision::Gradient(size * testing::made_up_gradient(0, j, Tensor{0}, i));
      reduce.depart(0, k, k);
    }
    reduce.finish(0, 0);
    reduce.wait(0);
    const Range own = sharding.partition().owned(0, comm.rank());
    const auto sum = reduce.sum(0, own);
    for (index_t i = own.begin; i < own.end; ++i) all[i] = static_cast<float>(sum[i - own.begin]);
    if (!Stage::shards_state)
      for (index_t i = 0; i < own.begin; ++i)
        CHECK(static_cast<float>(*reduce.sums().at(0, i)) != 0);  // the other ranks' parts have arrived too
  });
  return all;
}

float as_it_is(float x) { return x; }

// rounded: rounds to the type of gradients and of their sum.
std::vector<float> expected(int world, int passes, float (*rounded)(float), float size = 1) {
  std::vector<reference::Floats> leaves;
  for (int j = 0; j < world * passes; ++j) {
    leaves.emplace_back();
    for (index_t i = 0; i < n; ++i) {
      leaves.back().push_back(rounded(size * testing::made_up_gradient(0, j, Tensor{0}, i)));
    }
  }
  auto sum = reference::tree_sum(leaves);
  if (rounded != as_it_is)
    for (float& x : sum) x = rounded(x * (1.0f / static_cast<float>(world * passes)));
  return sum;
}

TEST_CASE(
    "the sum over ranks and passes has the bits of the reference's tree; in 16 bits it is the mean, rounded once") {
  for (int world = 1; world <= 5; ++world)
    for (int passes = 1; passes <= 8; ++passes) {
      CAPTURE(world);
      CAPTURE(passes);
      CHECK(reduced<Stage0, Fp32>(world, passes) == expected(world, passes, as_it_is));
      CHECK(reduced<Stage2, Fp32>(world, passes) == expected(world, passes, as_it_is));
      CHECK(reduced<Stage1, Bf16>(world, passes) == expected(world, passes, reference::to_bf16));
      CHECK(reduced<Stage3, Bf16>(world, passes) == expected(world, passes, reference::to_bf16));
      const float large = 65504;  // the sums exceed float16
      CHECK(reduced<Stage1, Fp16>(world, passes, large) == expected(world, passes, reference::to_fp16, large));
      CHECK(reduced<Stage3, Fp16>(world, passes, large) == expected(world, passes, reference::to_fp16, large));
    }
}

TEST_CASE(
    "native sums are scaled in float16, so that they have the range of the mean, and are not scaled in bfloat16") {
  for (const int world : {1, 2, 4})
    for (const int passes : {1, 2, 4}) {
      // Stages 0 and 1 add passes in float16 themselves.
      const float size = 65504;
      CHECK(reduced<Stage2, Fp16, Native>(world, passes, size) == expected(world, passes, reference::to_fp16, size));
      if (passes == 1)
        CHECK(reduced<Stage1, Fp16, Native>(world, 1, size) == expected(world, 1, reference::to_fp16, size));
      auto mean = reduced<Stage2, Bf16, Native>(world, passes);
      for (float& x : mean) x /= static_cast<float>(world * passes);
      CHECK(mean == expected(world, passes, reference::to_bf16));
    }
}

Layout three_units() {
  Layout layout;
  for (const char* name : {"a", "b", "c"}) {
    layout.add_unit(name);
    layout.add_tensor("w", {70});
  }
  return layout;
}

// A world of one rank, one unit per bucket.
template <class Stage, class Precision>
struct Alone {
  Sharding sharding;
  Host host;
  Recording<Self> comm{Self{}};
  typename Recording<Self>::Queue queue = comm.queue(std::chrono::seconds(10));
  Plan plan;
  Reduce<Recording<Self>, Stage, Precision> reduce;

  explicit Alone(const Layout& layout, int passes = 1, std::span<typename Precision::Gradient> buffer = {})
      : sharding(layout, 1, 1),
        plan(layout::make_plan(sharding, {.micro_batches = passes}, footprint_of<Sgd, Stage, Precision>())),
        reduce(sharding, 0, host, queue, plan, passes, buffer) {}
};

TEST_CASE("a communicator that needs a workspace gets the one of the plan") {
  for (int world = 1; world <= 3; ++world)
    for (const int passes : {1, 3}) {
      CHECK(reduced<Stage0, Fp32, NeedsWorkspace>(world, passes) == expected(world, passes, as_it_is));
      CHECK(reduced<Stage2, Bf16, NeedsWorkspace>(world, passes) == expected(world, passes, reference::to_bf16));
      CHECK(reduced<Stage3, Bf16ReduceFp32, NeedsWorkspace>(world, passes).size() == n);
    }
}

TEST_CASE("a dropped step frees its slots") {
  Alone<Stage2, Fp32> alone(three_units());
  alone.reduce.open(Unit{2}, true);
  alone.reduce.open(Unit{1}, true);
  CHECK_THROWS_AS(alone.reduce.open(Unit{0}, true), UsageError);
  alone.reduce.drop();
  CHECK_NOTHROW(alone.reduce.open(Unit{0}, true));
}

template <class Stage>
void check_reduction_after_drop() {
  run_ranks(2, [&](Local& comm) {
    Layout layout;
    layout.add_unit("only");
    layout.add_tensor("w", {n});
    const Sharding sharding(layout, 2, 1);
    Host host;
    auto queue = comm.queue(std::chrono::seconds(10));
    const Plan plan = layout::make_plan(sharding, {}, footprint_of<Sgd, Stage, Fp32>());
    Reduce<Local, Stage, Fp32> reduce(sharding, comm.rank(), host, queue, plan, 2, {});
    const testing::DropsFirst drops_first(queue);
    std::ranges::fill(reduce.open(Unit{0}, true).trainable(), 100.0f);
    if (comm.rank() == 0) reduce.depart(0, 0, 0);  // the other rank never joins
    queue.drop();
    reduce.drop();
    CHECK_NOTHROW(reduce.wait(0));
    float* room = nullptr;
    CHECK_NOTHROW(room = reduce.open(Unit{0}, true).trainable().data());
    REQUIRE(room != nullptr);
    std::fill_n(room, n, 1.0f + static_cast<float>(comm.rank()));
    reduce.depart(0, 0, 1);
    bool right = true;
    reduce.wait(0);
    for (const float x : reduce.sums().owned_span(0)) right &= x == 3;
    CHECK(right);
  });
}

TEST_CASE("no rank waits for collectives in flight of a dropped step, and the next step starts without them") {
  check_reduction_after_drop<Stage0>();
  check_reduction_after_drop<Stage1>();
  check_reduction_after_drop<Stage2>();
}

TEST_CASE("opening a unit clears it and the gap after it, or neither") {
  std::vector<float> buffer(198, 7.0f);  // units at 0, 128 and, to the end, 128 + 70
  Layout layout;
  layout.add_unit("a");
  layout.add_tensor("w", {70});
  layout.add_unit("b");
  layout.add_tensor("w", {70});
  const Sharding sharding(layout, 1, 1000);  // both in one bucket
  Host host;
  Self self;
  auto queue = self.queue(std::chrono::seconds(10));
  Reduce<Self, Stage1, Fp32> reduce(sharding, 0, host, queue,
                                    layout::make_plan(sharding, {}, footprint_of<Sgd, Stage1, Fp32>()), 1, buffer);
  CHECK(reduce.open(Unit{0}, false).trainable().data() == buffer.data());
  CHECK(buffer == std::vector<float>(198, 7.0f));
  reduce.open(Unit{0}, true);
  for (index_t i = 0; i < 198; ++i) CHECK(buffer[i] == (i < 128 ? 0.0f : 7.0f));
  CHECK(reduce.open(Unit{1}, true).trainable().data() == buffer.data() + 128);
  CHECK(buffer == std::vector<float>(198));
}

TEST_CASE("a pass of a flat layout begins by clearing all of the caller's buffer") {
  std::vector<float> buffer(300, 7.0f);
  Alone<Stage1, Fp32> alone(Layout::flat(300), 1, buffer);
  alone.reduce.begin_pass(0);
  CHECK(buffer == std::vector<float>(300));
}

TEST_CASE(
    "the sum replaces the gradients in the caller's buffer if the types are the same, and else has its own memory") {
  std::vector<float> buffer(three_units().trainable_elements());
  Alone<Stage0, Fp32> whole(three_units(), 1, buffer);
  CHECK(whole.reduce.sum(1, {128, 198}).data() == buffer.data() + 128);
  CHECK(whole.reduce.sums().at(1, 130) == buffer.data() + 130);
  CHECK(whole.host.allocated_bytes() == 0);
  Alone<Stage2, Fp32> slotted(three_units());
  CHECK(slotted.host.allocated_bytes() == slotted.plan.gradient_slots.bytes() + slotted.plan.reduced_gradients.bytes());
}

TEST_CASE("a bucket sends one reduction per pass, and at stage 0 one gather per step; an empty bucket sends nothing") {
  Layout layout = three_units();
  layout.add_unit("nothing");
  const auto sent = [&]<class Stage>(Stage) {
    Alone<Stage, Fp32> alone(layout, 3);
    for (int pass = 0; pass < 3; ++pass)
      for (int u = 3; u >= 0; --u) {
        alone.reduce.open(Unit{u}, true);
        alone.reduce.depart(u, pass, pass);
      }
    for (int b = 3; b >= 0; --b) alone.reduce.finish(b, 0);
    std::vector<int> count(2);
    for (const Record& record : alone.comm.log()) {
      ++count[record.kind == Collective::all_gather];
      CHECK(record.tag.index != 3);
    }
    return count;
  };
  CHECK(sent(Stage0{}) == std::vector<int>{9, 3});
  CHECK(sent(Stage1{}) == std::vector<int>{9, 0});
  CHECK(sent(Stage2{}) == std::vector<int>{9, 0});
}

}  // namespace
}  // namespace tessera::engine
