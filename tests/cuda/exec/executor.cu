#include <tessera/cuda/exec/executor.cuh>

#include <cuda_runtime.h>
#include <doctest/doctest.h>

#include <cstdint>
#include <limits>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include <tessera/exec/executor.hpp>
#include <tessera/exec/host.hpp>

#include "cuda/array.hpp"

namespace tessera {
namespace {

static_assert(Executor<Cuda> && StreamExecutor<Cuda>);
static_assert(!Cuda::synchronous);

struct Increment {
  float* values;
  TESSERA_HD void operator()(index_t i) const noexcept { values[i] += 1; }
};
struct AddGiven {
  float* values;
  TESSERA_HD void operator()(index_t i, float given) const noexcept { values[i] += given; }
};
struct Copy {
  const float* from;
  float* to;
  TESSERA_HD void operator()() const noexcept { *to = *from; }
};

template <class T>
std::vector<T> contents(Cuda& cuda, std::span<const T> there) {
  std::vector<T> here(there.size());
  cuda.download(there, here.data());
  return here;
}

TEST_CASE("loops run in the order of the calls, and memory is zero at first") {
  Cuda cuda;
  auto buffer = cuda.allocate<float>(1000);
  float* const values = buffer.span().data();
  for (int turn = 0; turn < 3; ++turn) cuda.for_each(1000, Increment{values});
  cuda.for_each(0, Increment{nullptr});
  cuda.once(Copy{values, values + 1});
  cuda.for_each(1, Increment{values});
  auto expected = std::vector<float>(1000, 3.0f);
  expected[0] = 4;
  CHECK(contents(cuda, std::span<const float>(buffer.span())) == expected);
}

TEST_CASE("bytes are counted exactly, a copy counts its own, and buffers may outlive the executor") {
  Cuda::Buffer<float> survivor;
  {
    Cuda cuda;
    survivor = cuda.allocate<float>(100);
    CHECK(cuda.allocated_bytes() == 400);
    Cuda copy = cuda;
    CHECK(copy.stream() == cuda.stream());
    CHECK(copy.allocated_bytes() == 0);
    { const auto more = cuda.allocate<double>(10); }
    CHECK(cuda.allocated_bytes() == 400);
    CHECK(cuda.peak_bytes() == 480);
  }
  CHECK(survivor.size() == 100);
}

TEST_CASE("it runs on the caller's stream, in the order of the caller's work") {
  const CudaStream stream;
  Cuda cuda(stream.get());
  CHECK(cuda.stream() == stream.get());
  auto buffer = cuda.allocate<float>(8);
  REQUIRE(cudaMemsetAsync(buffer.span().data(), 0, 32, stream.get()) == cudaSuccess);
  cuda.for_each(8, Increment{buffer.span().data()});
  std::vector<float> found(8);
  REQUIRE(cudaMemcpyAsync(found.data(), buffer.span().data(), 32, cudaMemcpyDeviceToHost, stream.get()) == cudaSuccess);
  REQUIRE(cudaStreamSynchronize(stream.get()) == cudaSuccess);
  CHECK(found == std::vector<float>(8, 1.0f));
}

TEST_CASE("an executor waits for another executor's event") {
  Cuda first, second;
  auto buffer = first.allocate<float>(100);
  for (int turn = 0; turn < 20; ++turn) {
    first.for_each(100, Increment{buffer.span().data()});
    second.wait(first.record());
    second.for_each(100, Increment{buffer.span().data()});
    first.wait(second.record());
  }
  CHECK(contents(first, std::span<const float>(buffer.span())) == std::vector<float>(100, 40.0f));
}

TEST_CASE("other streams fork from the executor's stream and join it again, also captured") {
  Cuda cuda;
  const CudaStream others[2];
  auto buffer = cuda.allocate<float>(300);
  float* const values = buffer.span().data();
  const auto branches = [&] {
    cuda.for_each(300, Increment{values});
    for (const CudaStream& other : others) cuda.fork(other.get());
    device::for_each(100, Increment{values}, 1, others[0].get());
    device::for_each(200, Increment{values + 100}, 1, others[1].get());
    for (const CudaStream& other : others) cuda.join(other.get());
    cuda.for_each(300, Increment{values});
  };
  for (int turn = 0; turn < 10; ++turn) branches();
  testing::Capture capture(cuda.stream());
  branches();
  capture.end();
  for (int turn = 0; turn < 10; ++turn) capture.launch();
  CHECK(contents(cuda, std::span<const float>(buffer.span())) == std::vector<float>(300, 60.0f));
}

TEST_CASE("squares and digests equal the host's, for numbers that the host computed") {
  Cuda cuda;
  Host host;
  constexpr index_t n = 5000;
  auto buffer = cuda.allocate<float>(n);
  const auto value = [](index_t i) { return static_cast<float>(i % 97) - 48.25f; };
  cuda.from_host(n, value, AddGiven{buffer.span().data()});
  const std::span<const float> there = buffer.span();
  const std::vector<float> here = contents(cuda, there);
  for (index_t i = 0; i < n; ++i) REQUIRE(here[static_cast<std::size_t>(i)] == value(i));
  CHECK(cuda.digest(there) == host.digest(std::span<const float>(here)));
  CHECK(cuda.digest(there.first(0)) == host.digest(std::span<const float>()));

  auto sum = cuda.allocate<SquareSum>(1);
  const SquareSum empty;
  cuda.upload(sum.span(), &empty);
  cuda.add_squares(there, 0, sum.span().data());
  cuda.add_squares(there.first(0), 0, sum.span().data());
  SquareSum expected;
  host.add_squares(std::span<const float>(here), 0, &expected);
  const SquareSum found = cuda.read_back(sum.span().data()).get();
  CHECK(found.squares.value() == expected.squares.value());
  CHECK(found.first_non_finite == expected.first_non_finite);
}

// The operations of a step, without an allocation or a wait between begin and end.
struct Step {
  Cuda cuda;
  Cuda::Buffer<float> values = cuda.allocate<float>(3000);
  Cuda::Buffer<SquareSum> sum = cuda.allocate<SquareSum>(1);

  Step() {
    const SquareSum empty;
    cuda.upload(sum.span(), &empty);
  }
  Cuda::ReadBack<SquareSum> run() {
    cuda.for_each(3000, Increment{values.span().data()});
    cuda.wait(cuda.record());
    cuda.add_squares(std::span<const float>(values.span()), 0, sum.span().data());
    cuda.once(Copy{values.span().data(), values.span().data() + 1});
    return cuda.read_back(sum.span().data());
  }
};

TEST_CASE("a captured step replays with the bits of a plain one") {
  Step plain, graph;
  testing::Capture capture(graph.cuda.stream());
  const auto of_graph = graph.run();
  capture.end();
  for (int step = 0; step < 4; ++step) {
    const auto of_plain = plain.run();
    capture.launch();
    REQUIRE(cudaStreamSynchronize(graph.cuda.stream()) == cudaSuccess);
    CHECK(of_graph.get().squares.value() == of_plain.get().squares.value());
    CHECK(of_graph.get().squares.value() > 0);
  }
  CHECK(contents(graph.cuda, std::span<const float>(graph.values.span())) ==
        contents(plain.cuda, std::span<const float>(plain.values.span())));
}

TEST_CASE("each device can have executors, whichever device is current") {
#if defined(TESSERA_EMULATED_CUDA)
  emulated::devices(2);
#endif
  int devices = 0;
  REQUIRE(cudaGetDeviceCount(&devices) == cudaSuccess);
  for (int each = 0; each < devices; ++each) {
    REQUIRE(cudaSetDevice(each) == cudaSuccess);
    Cuda cuda;
    REQUIRE(cudaSetDevice(0) == cudaSuccess);
    CHECK(cuda.device() == each);
    auto buffer = cuda.allocate<float>(100);
    cuda.for_each(100, Increment{buffer.span().data()});
    cuda.wait(cuda.record());
    CHECK_NOTHROW(cuda.check_reachable("values", buffer.span().data(), 400));
    CHECK(cuda.read_back(buffer.span().data() + 99).get() == 1.0f);
    int now = -1;
    REQUIRE(cudaGetDevice(&now) == cudaSuccess);
    CHECK(now == 0);
  }
#if defined(TESSERA_EMULATED_CUDA)
  emulated::devices(1);
#endif
}

#if defined(TESSERA_EMULATED_CUDA)
TEST_CASE("without a device the error is one clear line") {
  emulated::broken(cudaErrorNoDevice);
  CHECK_THROWS_WITH_AS(Cuda{}, "creating a CUDA stream: there is no CUDA device", CudaError);
  emulated::broken(cudaSuccess);
  cudaGetLastError();
}
#endif

TEST_CASE("memory that loops cannot access is refused by name") {
  const Cuda cuda;
  const float on_host = 0;
  CHECK_THROWS_AS(cuda.check_reachable("the parameters", &on_host, 4), BufferError);
}

TEST_CASE("buffers come from the memory source of a communicator") {
  struct Counted final : DeviceMemory {
    int calls = 0;
    void* allocate(index_t bytes) override {
      ++calls;
      return PlainDeviceMemory{}.allocate(bytes);
    }
    void free(void* memory, index_t bytes) noexcept override { PlainDeviceMemory{}.free(memory, bytes); }
  };
  const auto memory = std::make_shared<Counted>();
  const CudaStream stream;
  Cuda cuda(stream.get(), memory), copy = cuda;
  const auto a = cuda.allocate<float>(3), b = copy.allocate<float>(3);
  CHECK(memory->calls == 2);
}

}  // namespace
}  // namespace tessera
