#include <tessera/cuda/runtime/buffer.cuh>

#include <cuda_runtime.h>
#include <doctest/doctest.h>

#include <memory>
#include <utility>
#include <vector>

#include <tessera/exec/executor.hpp>

namespace tessera {
namespace {

static_assert(exec::BufferOf<CudaBuffer<float>, float>);

// Memory with old content, and a count of its allocations.
struct UsedMemory final : DeviceMemory {
  index_t out = 0;
  void* allocate(index_t bytes) override {
    void* const memory = plain.allocate(bytes);
    REQUIRE(cudaMemset(memory, 0xff, static_cast<std::size_t>(bytes)) == cudaSuccess);
    REQUIRE(cudaDeviceSynchronize() == cudaSuccess);
    out += bytes;
    return memory;
  }
  void free(void* memory, index_t bytes) noexcept override {
    plain.free(memory, bytes);
    out -= bytes;
  }
  PlainDeviceMemory plain;
};

struct Fixture {
  CudaStream stream;
  std::shared_ptr<UsedMemory> source = std::make_shared<UsedMemory>();
  std::shared_ptr<exec::ByteCount> count = std::make_shared<exec::ByteCount>();

  template <class T>
  CudaBuffer<T> make(index_t n) {
    return CudaBuffer<T>(n, stream.get(), source, count);
  }
};

TEST_CASE_FIXTURE(Fixture, "a buffer is zero for the next work on its stream, whatever the memory contained") {
  const auto buffer = make<float>(1000);
  std::vector<float> values(1000, 1.0f);
  REQUIRE(cudaMemcpyAsync(values.data(), buffer.span().data(), 4000, cudaMemcpyDeviceToHost, stream.get()) ==
          cudaSuccess);
  REQUIRE(cudaStreamSynchronize(stream.get()) == cudaSuccess);
  CHECK(values == std::vector<float>(1000));
}

TEST_CASE_FIXTURE(Fixture, "bytes are counted while they are allocated, and are returned to their source") {
  {
    auto a = make<float>(10);
    const auto none = make<double>(0);
    CHECK(none.span().empty());
    CHECK(a.size() == 10);
    CHECK(count->held() == 40);
    CHECK(source->out == 40);
    auto b = std::move(a);
    CHECK(count->held() == 40);
    b = make<float>(3);
    CHECK(count->held() == 12);
    CHECK(count->peak() == 52);
  }
  CHECK(count->held() == 0);
  CHECK(source->out == 0);
}

TEST_CASE("a buffer keeps its source alive") {
  CudaBuffer<float> survivor;
  std::weak_ptr<UsedMemory> source;
  {
    Fixture fixture;
    source = fixture.source;
    survivor = fixture.make<float>(5);
  }
  CHECK_FALSE(source.expired());
  survivor = {};
  CHECK(source.expired());
}

TEST_CASE_FIXTURE(Fixture, "an allocation larger than the memory fails and is not counted") {
  CHECK_THROWS_AS(make<float>(index_t{1} << 58), CudaError);
  CHECK(count->held() == 0);
}

}  // namespace
}  // namespace tessera
