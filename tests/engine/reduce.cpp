#include <doctest/doctest.h>

#include <vector>

#include <tessera/comm/local.hpp>
#include <tessera/engine/construction.hpp>
#include <tessera/engine/reduce.hpp>
#include <tessera/precision/precision.hpp>
#include <tessera/rule/sgd.hpp>
#include <tessera/stage/stage.hpp>

#include "drops_first.hpp"
#include "reference/reference.hpp"
#include "training.hpp"

namespace tessera {
namespace {

constexpr index_t n = 200;

// Every rank's part of the sum over `world` ranks and `passes` passes, put together.
template <class Stage, class Precision>
std::vector<float> reduced(int world, int passes) {
  std::vector<float> all(n);
  Layout layout;
  layout.add_unit("only");
  layout.add_tensor("w", {n});
  run_ranks(world, [&](Local& comm) {
    const Sharding sharding(layout, world, 1000);
    Host host;
    auto queue = comm.queue(Duration::seconds(10));
    const Plan plan = make_plan(sharding, {.micro_batches = passes}, footprint_of<Sgd, Stage, Precision>(0));
    Reduce<Local, Stage, Precision> reduce(sharding, comm.rank(), host, queue, plan, passes, {});
    const testing::DropsFirst drops_first(queue);
    for (int k = 0; k < passes; ++k) {
      auto* const leaf = reduce.open(Unit{0}, true);
      for (index_t i = 0; i < n; ++i) leaf[i] = typename Precision::Gradient(testing::made_up_gradient(0, k * world + comm.rank(), Tensor{0}, i));
      reduce.depart(0, k, k);
    }
    reduce.finish(0, 0);
    const auto sum = reduce.sum(0);
    const Range own = sharding.trainable().owned(0, comm.rank());
    REQUIRE(static_cast<index_t>(sum.size()) == own.size());
    for (index_t i = own.begin; i < own.end; ++i) all[i] = static_cast<float>(sum[i - own.begin]);
    if (!Stage::shards_state)
      for (index_t i = 0; i < own.begin; ++i) CHECK(static_cast<float>(*reduce.at(0, i)) != 0);  // the others' parts have come too
  });
  return all;
}

std::vector<float> expected(int world, int passes, bool bf16) {
  std::vector<reference::Floats> leaves;
  for (int j = 0; j < world * passes; ++j) {
    leaves.emplace_back();
    for (index_t i = 0; i < n; ++i) {
      const float g = testing::made_up_gradient(0, j, Tensor{0}, i);
      leaves.back().push_back(bf16 ? reference::to_bf16(g) : g);
    }
  }
  auto sum = reference::reduced(leaves, static_cast<std::size_t>(world));
  if (bf16)
    for (float& x : sum) x = reference::to_bf16(x);
  return sum;
}

TEST_CASE("the sum over ranks and passes is the reference's tree to the bit, rounded once") {
  for (int world = 1; world <= 5; ++world)
    for (int passes = 1; passes <= 8; ++passes) {
      CAPTURE(world);
      CAPTURE(passes);
      CHECK(reduced<Stage0, Fp32>(world, passes) == expected(world, passes, false));
      CHECK(reduced<Stage2, Fp32>(world, passes) == expected(world, passes, false));
      CHECK(reduced<Stage1, Bf16>(world, passes) == expected(world, passes, true));
      CHECK(reduced<Stage3, Bf16>(world, passes) == expected(world, passes, true));
    }
}

}  // namespace
}  // namespace tessera
