// Captures and graphs in the emulation: what CUDA rejects is rejected, and a replay follows only the graph's edges.
#include <cuda_runtime.h>
#include <doctest/doctest.h>

#include <thread>

#include "fixtures.hpp"

namespace emulated_test {
namespace {

struct Graph {
  cudaGraph_t graph = nullptr;
  cudaGraphExec_t exec = nullptr;
  cudaError_t end(cudaStream_t stream) {
    const cudaError_t error = cudaStreamEndCapture(stream, &graph);
    if (error == cudaSuccess) REQUIRE(cudaGraphInstantiate(&exec, graph, 0) == cudaSuccess);
    return error;
  }
  ~Graph() {
    if (exec) cudaGraphExecDestroy(exec);
    if (graph) cudaGraphDestroy(graph);
  }
};

cudaError_t begin(cudaStream_t stream, cudaStreamCaptureMode mode = cudaStreamCaptureModeThreadLocal) {
  return cudaStreamBeginCapture(stream, mode);
}

// The result of ending a capture in which `f` was called.
template <class F>
cudaError_t captured(const F& f, cudaStreamCaptureMode mode = cudaStreamCaptureModeThreadLocal) {
  Stream stream;
  Graph graph;
  REQUIRE(begin(stream, mode) == cudaSuccess);
  f(stream);
  const cudaError_t error = graph.end(stream);
  cudaGetLastError();
  return error;
}

}  // namespace

TEST_CASE("a captured fork and join is replayed in order, and unordered work in any order") {
  int wrong = 0;
  for (int seed = 0; seed < seeds; ++seed) {
    emulated::seed(static_cast<std::uint64_t>(seed));
    for (const bool joined : {true, false}) {
      Array<int> number(std::vector<int>{0});
      Stream origin, fork;
      Event forked, done;
      Graph graph;
      REQUIRE(begin(origin) == cudaSuccess);
      cudaEventRecord(forked, origin);
      cudaStreamWaitEvent(fork, forked);
      cudaStreamCaptureStatus status;
      CHECK(cudaStreamIsCapturing(fork, &status) == cudaSuccess);
      CHECK(status == cudaStreamCaptureStatusActive);
      launch(fork, 1, 1, add, number.data, 1);
      cudaEventRecord(done, fork);
      if (joined) cudaStreamWaitEvent(origin, done);
      launch(origin, 1, 1, add, number.data, 2);
      if (!joined) cudaStreamWaitEvent(origin, done);
      REQUIRE(graph.end(origin) == cudaSuccess);
      CHECK(cudaStreamIsCapturing(fork, &status) == cudaSuccess);
      CHECK(status == cudaStreamCaptureStatusNone);
      cudaDeviceSynchronize();
      CHECK(number.values()[0] == 0);  // nothing has run yet
      CHECK(cudaGraphLaunch(graph.exec, origin) == cudaSuccess);
      launch(origin, 1, 1, add, number.data, 0);  // after the whole graph
      cudaStreamSynchronize(origin);
      const bool right = number.values()[0] == (1 * 2 + 2) * 2;
      if (joined) CHECK(right);
      if (!joined && !right) ++wrong;
    }
  }
  CHECK(wrong > seeds / 4);
  CHECK(wrong < seeds);
}

TEST_CASE("launches of one graph run one after another, also on two streams, and each does all of its work") {
  for (int seed = 0; seed < seeds; ++seed) {
    emulated::seed(static_cast<std::uint64_t>(seed));
    Array<int> number(std::vector<int>{0});
    Stream a, b;
    Graph graph;
    REQUIRE(begin(a) == cudaSuccess);
    launch(a, 1, 1, add, number.data, 1);
    launch(a, 1, 1, add, number.data, 2);
    REQUIRE(graph.end(a) == cudaSuccess);
    cudaGraphLaunch(graph.exec, a);
    cudaGraphLaunch(graph.exec, b);
    cudaDeviceSynchronize();
    CHECK(number.values()[0] == ((1 * 2 + 2) * 2 + 1) * 2 + 2);
  }
}

TEST_CASE("a replay copies the content that pinned and pageable memory have at that time") {
  Array<int> number(1);
  int plain = 1;
  Stream stream;
  Graph graph;
  REQUIRE(begin(stream) == cudaSuccess);
  cudaMemcpyAsync(number.data, &plain, sizeof(int), cudaMemcpyHostToDevice, stream);
  REQUIRE(graph.end(stream) == cudaSuccess);
  plain = 2;
  cudaGraphLaunch(graph.exec, stream);
  cudaStreamSynchronize(stream);
  CHECK(number.values()[0] == 2);
}

TEST_CASE("work that a capture cannot contain is rejected") {
  Array<int> number(1);
  Event event;
  Stream other;
  SUBCASE("a wait for work outside the capture") {
    cudaEventRecord(event, other);
    CHECK(captured([&](cudaStream_t stream) {
            CHECK(cudaStreamWaitEvent(stream, event) == cudaErrorStreamCaptureIsolation);
            CHECK(launch(stream, 1, 1, add, number.data, 1) == cudaErrorStreamCaptureInvalidated);
          }) == cudaErrorStreamCaptureInvalidated);
  }
  SUBCASE("a fork without a join") {
    CHECK(captured([&](cudaStream_t stream) {
            cudaEventRecord(event, stream);
            CHECK(cudaStreamWaitEvent(other, event) == cudaSuccess);
            CHECK(launch(other, 1, 1, add, number.data, 1) == cudaSuccess);
          }) == cudaErrorStreamCaptureUnjoined);
  }
  SUBCASE("a query or a wait") {
    CHECK(captured([&](cudaStream_t stream) {
            CHECK(cudaStreamSynchronize(stream) == cudaErrorStreamCaptureUnsupported);
          }) == cudaErrorStreamCaptureInvalidated);
    CHECK(captured([&](cudaStream_t stream) {
            cudaEventRecord(event, stream);
            CHECK(cudaEventQuery(event) == cudaErrorCapturedEvent);
          }) == cudaErrorStreamCaptureInvalidated);
  }
  SUBCASE("an allocation, and a wait for another stream") {
    void* memory = nullptr;
    const auto allocate = [&](cudaStream_t) { CHECK(cudaMalloc(&memory, 1) == cudaErrorStreamCaptureUnsupported); };
    CHECK(captured(allocate) == cudaErrorStreamCaptureInvalidated);
    const auto wait = [&](cudaStream_t) { CHECK(cudaStreamSynchronize(other) == cudaErrorStreamCaptureUnsupported); };
    CHECK(captured(wait) == cudaErrorStreamCaptureInvalidated);
  }
  SUBCASE("the legacy stream") {
    CHECK(captured([&](cudaStream_t) {
            CHECK(launch(nullptr, 1, 1, add, number.data, 1) == cudaErrorStreamCaptureImplicit);
          }) == cudaErrorStreamCaptureInvalidated);
  }
  SUBCASE("ending the capture on another stream") {
    CHECK(captured([&](cudaStream_t) {
            cudaGraph_t graph;
            CHECK(cudaStreamEndCapture(other, &graph) == cudaErrorStreamCaptureUnmatched);
          }) == cudaSuccess);
  }
  cudaGetLastError();
}

TEST_CASE("an event of a capture has no effect after it, until it is recorded again") {
  Event event;
  Stream other;
  CHECK(captured([&](cudaStream_t stream) { cudaEventRecord(event, stream); }) == cudaSuccess);
  CHECK(cudaEventQuery(event) == cudaErrorCapturedEvent);
  CHECK(cudaStreamWaitEvent(other, event) == cudaErrorCapturedEvent);
  CHECK(cudaEventRecord(event, other) == cudaSuccess);
  CHECK(cudaEventSynchronize(event) == cudaSuccess);
  cudaGetLastError();
}

TEST_CASE(
    "relaxed mode allows allocations; a Global capture forbids them to other threads, a ThreadLocal one does not") {
  CHECK(captured([](cudaStream_t) {
          cudaStreamCaptureMode mode = cudaStreamCaptureModeRelaxed;
          CHECK(cudaThreadExchangeStreamCaptureMode(&mode) == cudaSuccess);
          { Array<int> memory(1); }
          CHECK(cudaThreadExchangeStreamCaptureMode(&mode) == cudaSuccess);
          CHECK(mode == cudaStreamCaptureModeRelaxed);
        }) == cudaSuccess);
  const auto elsewhere = [](cudaStreamCaptureMode mode) {
    cudaError_t error = cudaSuccess;
    captured(
        [&](cudaStream_t) { std::thread([&] { error = cudaFree(nullptr), error = cudaDeviceSynchronize(); }).join(); },
        mode);
    return error;
  };
  CHECK(elsewhere(cudaStreamCaptureModeGlobal) == cudaErrorStreamCaptureUnsupported);
  CHECK(elsewhere(cudaStreamCaptureModeThreadLocal) == cudaSuccess);
}

}  // namespace emulated_test
