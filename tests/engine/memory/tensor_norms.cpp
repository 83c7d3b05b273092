#include <doctest/doctest.h>

#include <chrono>
#include <cmath>
#include <cstddef>
#include <string>
#include <vector>

#include "training.hpp"

namespace tessera::engine {
namespace {

TEST_CASE("norms of tensors are summed over ranks, the two norms of each tensor separately") {
  Plan plan;
  plan.tensor_norms = {"tensor norms", 1, norm_words * 3, 8};
  run_ranks(2, [&](Local& comm) {
    Host host;
    auto queue = comm.queue(std::chrono::seconds(10));
    TensorNorms<Host> norms(host, plan, 3);
    for (int step = 0; step < 2; ++step) {
      norms.clear();
      norms.of(Tensor{2})->weights.add(comm.rank() == 0 ? 9 : 16);
      norms.of(Tensor{2})->norm_input.add(comm.rank() == 0 ? 0 : 4);
      norms.exchange(queue, step);
      norms.finish();
      CHECK(norms.of(Tensor{2})->of_weights() == 5);
      CHECK(norms.of(Tensor{2})->of_norm_input() == 2);
      CHECK(norms.of(Tensor{1})->of_weights() == 0);
    }
  });
}

TEST_CASE("a plan has memory for tensor norms if the rule needs them, and one all-reduce sums all") {
  const Layout layout = testing::ragged_layout();
  CHECK(Sharded<Adam, Stage2>::plan(layout, 2).tensor_norms.bytes() == 0);
  CHECK(Sharded<Lamb, Stage2>::plan(layout, 2).tensor_norms.bytes() == norm_words * 8 * layout.tensors().size());
  run_ranks(2, [&](Local& local) {
    Recording<Local> comm(local);
    Sharded<Lamb, Stage2, Fp32, Recording<Local>> optimizer(comm, layout, {}, std::vector<Lamb>(2));
    optimizer.initialize(testing::made_up_weight);
    testing::run_pass(optimizer, 0, comm.rank());
    comm.clear();
    CHECK(optimizer.step().applied());
    std::vector<std::string> reduced;
    for (const Record& record : comm.log())
      if (record.kind == Collective::all_reduce) reduced.push_back(record.tag.what);
    CHECK(reduced == std::vector<std::string>{"norm and agreement of step", "tensor norms of step"});
    CHECK(optimizer.bytes() == optimizer.plan().bytes());
  });
}

TEST_CASE("squares that count in no tensor's norm have a place of their own, where peers update the same") {
  const Layout layout = testing::ragged_layout();
  const Options options{.group_size = 1};
  CHECK(Sharded<Lamb, StageHybrid>::plan(layout, 2, options).tensor_norms.bytes() ==
        norm_words * 8 * (layout.tensors().size() + 1));
  CHECK(Sharded<Lamb, StageHybridState>::plan(layout, 2, options).tensor_norms.bytes() ==
        norm_words * 8 * layout.tensors().size());

  Plan plan;
  plan.tensor_norms = {"tensor norms", 1, norm_words * 2, 8};
  run_ranks(2, [&](Local& comm) {
    Host host;
    auto queue = comm.queue(std::chrono::seconds(10));
    TensorNorms<Host> norms(host, plan, 1);
    norms.clear();
    norms.of(Tensor{0})->weights.add(8);
    norms.unused()->weights.add(100);
    norms.exchange(queue, 0);
    norms.finish();
    CHECK(norms.of(Tensor{0})->of_weights() == 4);
  });
}

}  // namespace
}  // namespace tessera::engine
