// A complete step in a CUDA graph, replayed with the bits of a plain run, including a skipped step, a changing loss
// scale and a scheduled learning rate. The capture also proves that no call of a step waits for the device.
#include <cuda_runtime.h>
#include <doctest/doctest.h>

#include <vector>

#include <tessera/cuda/local/self.cuh>

#include "cuda/device_training.hpp"

namespace tessera {
namespace {

using testing::Trained;
using testing::Training;

constexpr int steps = 6, captured_from = 2, passes = 2;
constexpr index_t broken_step = 3;  // one of the replayed steps

using Rule = Scheduled<AdamW, CosineSchedule>;
const Rule rule{AdamW{}, {.peak = 0.1, .warmup_steps = 2, .steps = 8}};

template <class Stage>
struct Fixture {
  CudaStream stream;
  CudaSelf comm{stream.get()};
  Sharded<Rule, Stage, Fp16, CudaSelf> optimizer{
      comm, testing::ragged_layout(), {}, {rule, rule},
      {.micro_batches = passes, .clip_norm = 2, .bucket_bytes = 1000, .loss_scale = {.initial = 256, .hysteresis = 1}}};
  Training<Sharded<Rule, Stage, Fp16, CudaSelf>> training{optimizer, comm.executor(), 0, 1, passes, broken_step};

  Fixture() { optimizer.initialize(testing::made_up_weight); }
};

template <class Stage>
Trained plain() {
  Fixture<Stage> f;
  for (int s = 0; s < steps; ++s) f.training.note(f.training.step());
  return f.training.end();
}

template <class Stage>
Trained replayed() {
  Fixture<Stage> f;
  for (int s = 0; s < captured_from; ++s) f.training.note(f.training.step());
  f.optimizer.finish();

  REQUIRE(cudaStreamBeginCapture(f.stream.get(), cudaStreamCaptureModeThreadLocal) == cudaSuccess);
  const auto report = f.training.step();
  const auto weights = f.optimizer.finish();
  cudaGraph_t graph = nullptr;
  REQUIRE(cudaStreamEndCapture(f.stream.get(), &graph) == cudaSuccess);
  CHECK(weights.first_non_finite_weight().empty());  // also before the first replay
  cudaGraphExec_t replay = nullptr;
  REQUIRE(cudaGraphInstantiate(&replay, graph, 0) == cudaSuccess);
  for (int s = captured_from; s < steps; ++s) {
    REQUIRE(cudaGraphLaunch(replay, f.stream.get()) == cudaSuccess);
    REQUIRE(cudaStreamSynchronize(f.stream.get()) == cudaSuccess);
    f.training.note(report);
  }
  REQUIRE(cudaGraphExecDestroy(replay) == cudaSuccess);
  REQUIRE(cudaGraphDestroy(graph) == cudaSuccess);
  return f.training.end();
}

TEST_CASE_TEMPLATE("a replayed step has the bits of a plain one", Stage, Stage0, Stage1, Stage2,
                   Stage3) {
  const Trained expected = plain<Stage>();
  CHECK(expected.applied == std::vector<bool>{true, true, true, false, true, true});
  CHECK(expected.scales == std::vector<double>{256, 256, 256, 256, 128, 128});
  CHECK(replayed<Stage>() == expected);
}

}  // namespace
}  // namespace tessera
