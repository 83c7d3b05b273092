#include <tessera/cuda/exec/from_host.cuh>

#include <cuda_runtime.h>
#include <doctest/doctest.h>

#include <stdexcept>
#include <vector>

#include <tessera/cuda/runtime/stream.cuh>

#include "cuda/array.hpp"
#include "float_environment.hpp"

namespace tessera {
namespace {

struct Keep {
  float* values;
  TESSERA_HD void operator()(index_t i, float value) const noexcept { values[i] = value; }
};

TEST_CASE("each number is computed once, in order, and arrives at its index") {
  constexpr index_t chunk = device::HostChunks::size;
  const device::HostChunks chunks;
  const CudaStream stream;
  for (const index_t n : {index_t{0}, index_t{1}, chunk, 3 * chunk + 17}) {
    const testing::Array<float> values(n);
    index_t asked = 0;
    const auto value = [&](index_t i) {
      REQUIRE(i == asked++);
      return static_cast<float>(i) + 0.5f;
    };
    device::from_host(n, value, Keep{values.data()}, chunks, 2, stream.get());
    CHECK(asked == n);
    const auto found = values.get();
    for (index_t i = 0; i < n; ++i) REQUIRE(found[static_cast<std::size_t>(i)] == static_cast<float>(i) + 0.5f);
  }
}

TEST_CASE("an exception of the host's function is rethrown when the chunks can be reused") {
  constexpr index_t chunk = device::HostChunks::size;
  const device::HostChunks chunks;
  const CudaStream stream;
  const testing::Array<float> values(chunk), others(10);
  const auto fails = [](index_t i) -> float { return i < chunk ? 1.0f : throw std::runtime_error("no value"); };
  CHECK_THROWS_WITH(device::from_host(2 * chunk, fails, Keep{values.data()}, chunks, 2, stream.get()), "no value");
  const auto two = [](index_t) { return 2.0f; };
  device::from_host(10, two, Keep{others.data()}, chunks, 2, stream.get());
  CHECK(values.get() == std::vector<float>(static_cast<std::size_t>(chunk), 1.0f));
  CHECK(others.get() == std::vector<float>(10, 2.0f));
}

TEST_CASE("the host's function runs in the default floating-point environment, whatever the calling thread's") {
  const device::HostChunks chunks;
  const CudaStream stream;
  const testing::Array<float> values(7);
  {
    const testing::StrangeEnvironment strange;
    const auto value = [](index_t) { return testing::computes_by_default() ? 1.0f : 0.0f; };
    device::from_host(7, value, Keep{values.data()}, chunks, 2, stream.get());
    CHECK(testing::StrangeEnvironment::holds());
  }
  CHECK(values.get() == std::vector<float>(7, 1.0f));
}

}  // namespace
}  // namespace tessera
