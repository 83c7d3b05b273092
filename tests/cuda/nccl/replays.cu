#include <cuda_runtime.h>
#include <doctest/doctest.h>

#include <chrono>
#include <string>
#include <thread>

#include <tessera/core/clock.hpp>
#include <tessera/cuda/nccl/replays.cuh>
#include <tessera/cuda/runtime/stream.cuh>

#include "cuda/nccl_ranks.hpp"

namespace tessera {
namespace {

using nccl::Replays;
using testing::gather_of_bucket;

// Captures the work of `calls` on the stream, replays it once, and waits for it.
template <class Calls>
void replay(cudaStream_t stream, const Calls& calls) {
  REQUIRE(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal) == cudaSuccess);
  calls();
  cudaGraph_t graph = nullptr;
  cudaGraphExec_t executable = nullptr;
  REQUIRE(cudaStreamEndCapture(stream, &graph) == cudaSuccess);
  REQUIRE(cudaGraphInstantiate(&executable, graph, 0) == cudaSuccess);
  REQUIRE(cudaGraphLaunch(executable, stream) == cudaSuccess);
  REQUIRE(cudaStreamSynchronize(stream) == cudaSuccess);
  REQUIRE(cudaGraphExecDestroy(executable) == cudaSuccess);
  REQUIRE(cudaGraphDestroy(graph) == cudaSuccess);
}

TEST_CASE("a collective of a replay that has begun and is not done is overdue after the timeout, and is named") {
  constexpr std::chrono::nanoseconds timeout = std::chrono::milliseconds(20);
  const auto later = [] { std::this_thread::sleep_for(std::chrono::milliseconds(25)); };
  const CudaStream stream;
  Replays replays;
  CHECK(replays.overdue(timeout) == "");
  later();
  CHECK(replays.overdue(timeout) == "");

  replay(stream.get(), [&] {
    replays.begin(gather_of_bucket(3), stream.get());
    replays.end(stream.get());
    replays.begin(gather_of_bucket(4), stream.get());
  });
  CHECK(replays.overdue(timeout) == "");
  later();
  CHECK(replays.overdue(timeout) ==
        "all_gather of 4096 float in parts of 1024 (parameters of bucket 4, pass 2), replayed in a graph");

  replay(stream.get(), [&] {
    replays.end(stream.get());
    replays.begin(gather_of_bucket(5), stream.get());
  });
  CHECK(replays.overdue(timeout) == "");  // another one, which has just begun
  replay(stream.get(), [&] { replays.end(stream.get()); });
  later();
  CHECK(replays.overdue(timeout) == "");
}

}  // namespace
}  // namespace tessera
