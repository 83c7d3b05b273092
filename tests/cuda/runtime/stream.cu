#include <tessera/cuda/runtime/stream.cuh>

#include <cuda_runtime.h>
#include <doctest/doctest.h>

#include <utility>

#include "cuda/array.hpp"

namespace tessera {
namespace {

TEST_CASE("a moved stream keeps its work") {
  const testing::Array<int> value(1);
  CudaStream stream(StreamPriority::high);
  REQUIRE(cudaMemsetAsync(value.data(), 0xff, sizeof(int), stream.get()) == cudaSuccess);
  CudaStream moved(std::move(stream));
  CHECK(stream.get() == nullptr);
  stream = std::move(moved);
  REQUIRE(cudaStreamSynchronize(stream.get()) == cudaSuccess);
  CHECK(value.get()[0] == -1);
}

TEST_CASE("each capture has an id of its own") {
  const testing::Array<int> value(1);
  const CudaStream stream;
  CHECK(device::capture_of(stream.get()) == 0);
  std::uint64_t numbers[2];
  for (std::uint64_t& number : numbers) {
    testing::Capture graph(stream.get());
    number = device::capture_of(stream.get());
    REQUIRE(cudaMemsetAsync(value.data(), 0, sizeof(int), stream.get()) == cudaSuccess);
    graph.end();
    CHECK(device::capture_of(stream.get()) == 0);
  }
  CHECK(numbers[0] != 0);
  CHECK(numbers[1] != 0);
  CHECK(numbers[0] != numbers[1]);
}

TEST_CASE("WhileCapturing allows calls that the runtime rejects during a capture") {
  const testing::Array<int> value(1);
  const CudaStream stream;
  testing::Capture graph(stream.get());
  REQUIRE(cudaMemsetAsync(value.data(), 0xff, sizeof(int), stream.get()) == cudaSuccess);
  void* memory = nullptr;
  {
    const device::WhileCapturing allowed;
    CHECK(cudaMalloc(&memory, 16) == cudaSuccess);
    CHECK(cudaFree(memory) == cudaSuccess);
  }
  graph.end();  // the capture is still valid
  graph.launch();
  CHECK(value.get()[0] == -1);
}

}  // namespace
}  // namespace tessera
