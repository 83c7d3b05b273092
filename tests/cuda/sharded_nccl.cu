// The optimizer over NCCL: with ordered sums the bits do not depend on stage and world size, with NCCL's own sums they
// are nearly the same. Also a step of several ranks in a graph.
#include <cuda_runtime.h>
#include <doctest/doctest.h>
#include <nccl.h>

#include <cmath>
#include <vector>

#include <tessera/cuda/nccl/nccl.cuh>
#include <tessera/cuda/nccl/ordered.cuh>

#include "cuda/device_training.hpp"
#include "cuda/nccl_ranks.hpp"

namespace tessera {
namespace {

using testing::Trained;
using testing::Training;

constexpr int steps = 4, micro_batches = 4;
constexpr index_t broken_step = 2;

template <class Stage, class Comm>
Trained over(int world) {
  Trained first;
  testing::run_nccl_ranks(world, [&](Nccl& nccl) {
    const Comm comm(nccl);
    const Trained mine = testing::train_on<AdamW, Stage, Fp16>(comm, AdamW{}, steps, micro_batches, broken_step);
    if (nccl.rank() == 0) first = mine;
  });
  return first;
}

TEST_CASE("with ordered sums every stage and world size has the same bits") {
  const Trained one = over<Stage1, Ordered<Nccl>>(1);
  CHECK(one.applied == std::vector<bool>{true, true, false, true});
  for (const int world : {2, 4}) {
    if (!testing::devices_for(world)) continue;
    CHECK(over<Stage0, Ordered<Nccl>>(world).same_model(one));
    CHECK(over<Stage1, Ordered<Nccl>>(world).same_model(one));
    CHECK(over<Stage3, Ordered<Nccl>>(world).same_model(one));
    CHECK(over<StageHybridState, Ordered<Nccl>>(world).same_model(one));
  }
}

TEST_CASE("with NCCL's own sums the model is nearly the same, at stages that add passes in place and that do not") {
  const int world = testing::devices_for(4) ? 4 : testing::devices_for(2) ? 2 : 1;
  const Trained expected = over<Stage1, Ordered<Nccl>>(1);
  for (const Trained& trained : {over<Stage1, Nccl>(world), over<Stage3, Nccl>(world), over<StageHybrid, Nccl>(world)}) {
    CHECK(trained.applied == expected.applied);
    CHECK(trained.scales == expected.scales);
    REQUIRE(trained.parameters.size() == expected.parameters.size());
    double most = 0;
    for (std::size_t i = 0; i < expected.parameters.size(); ++i)
      most = std::fmax(most, std::fabs(static_cast<double>(trained.parameters[i] - expected.parameters[i])));
    CHECK(most < 0.01);
  }
}

TEST_CASE("a replayed step of all ranks has the bits of a plain one") {
  const int world = testing::devices_for(2) ? 2 : 1;
  std::vector<Trained> plain(static_cast<std::size_t>(world)), replayed(static_cast<std::size_t>(world));
  const auto train = [&](std::vector<Trained>& into, int captured_from) {
    testing::run_nccl_ranks(world, [&](Nccl& nccl) {
      Ordered<Nccl> comm(nccl);
      Sharded<AdamW, Stage3, Fp16, Ordered<Nccl>> optimizer(
          comm, testing::ragged_layout(), {}, {AdamW{}, AdamW{}},
          {.bucket_bytes = 1000, .loss_scale = {.initial = 256, .hysteresis = 1}});
      optimizer.initialize(testing::made_up_weight);
      Training training(optimizer, comm.executor(), comm.rank(), world, 1, broken_step);
      const cudaStream_t stream = comm.executor().stream();
      for (int s = 0; s < captured_from; ++s) training.note(training.step());
      if (captured_from < steps) {
        optimizer.finish();
        REQUIRE(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal) == cudaSuccess);
        const auto report = training.step();
        optimizer.finish();
        cudaGraph_t graph = nullptr;
        REQUIRE(cudaStreamEndCapture(stream, &graph) == cudaSuccess);
        cudaGraphExec_t replay = nullptr;
        REQUIRE(cudaGraphInstantiate(&replay, graph, 0) == cudaSuccess);
        for (int s = captured_from; s < steps; ++s) {
          REQUIRE(cudaGraphLaunch(replay, stream) == cudaSuccess);
          REQUIRE(cudaStreamSynchronize(stream) == cudaSuccess);
          training.note(report);
        }
        REQUIRE(cudaGraphExecDestroy(replay) == cudaSuccess);
        REQUIRE(cudaGraphDestroy(graph) == cudaSuccess);
      }
      into[static_cast<std::size_t>(nccl.rank())] = training.end();
    });
  };
  train(plain, steps);
  train(replayed, 1);
  CHECK(plain[0].applied == std::vector<bool>(world > 1 ? std::vector<bool>{true, true, false, true}
                                                        : std::vector<bool>{true, true, true, true}));
  CHECK(replayed == plain);
}

}  // namespace
}  // namespace tessera
