#include <tessera/cuda/runtime/device.cuh>

#include <cuda_runtime.h>
#include <doctest/doctest.h>

#include <tessera/cuda/runtime/stream.cuh>

#include "cuda/array.hpp"

namespace tessera {
namespace {

static_assert(device::blocks_for(1, 256, 8) == 1);
static_assert(device::blocks_for(257, 256, 8) == 2);
static_assert(device::blocks_for(index_t{1} << 40, 256, 8) == 8);

template <class T>
__global__ void number_threads(T* numbers, index_t n) {
  for (index_t i = device::thread_of_grid(); i < n; i += device::threads_of_grid()) numbers[i] += static_cast<T>(i);
}

TEST_CASE("the threads of a grid are numbered from 0, and a small grid iterates") {
  const testing::Array<int> numbers(1000);
  const CudaStream stream;
  device::launch(number_threads<int>, 3, 64, stream.get(), numbers.data(), 1000);
  const auto found = numbers.get();
  for (int i = 0; i < 1000; ++i) CHECK(found[static_cast<std::size_t>(i)] == i);
}

TEST_CASE("an invalid launch is an error at once") {
  const CudaStream stream;
  CHECK_THROWS_AS(device::launch(number_threads<int>, 1, 1 << 20, stream.get(), nullptr, 0), CudaError);
}

TEST_CASE("a device is current for the lifetime of Use, and then the thread's previous one is") {
  int devices = 0;
  REQUIRE(cudaGetDeviceCount(&devices) == cudaSuccess);
  for (int each = 0; each < devices; ++each) {
    {
      const device::Use use(each);
      CHECK(device::current() == each);
      CHECK(device::multiprocessors(each) > 0);
    }
    CHECK(device::current() == 0);
  }
  CHECK_THROWS_AS(device::Use{devices}, CudaError);
  CHECK(device::current() == 0);
}

}  // namespace
}  // namespace tessera
