#include <tessera/cuda/runtime/memory.cuh>

#include <cuda_runtime.h>
#include <doctest/doctest.h>

#include <cstdint>
#include <string>

#include "cuda/array.hpp"

namespace tessera {
namespace {

void check(const void* memory, index_t bytes) { device::check_reachable("the gradients", memory, bytes, 0); }

TEST_CASE("plain memory is aligned to 256 bytes") {
  PlainDeviceMemory source;
  void* const memory = source.allocate(100);
  CHECK(reinterpret_cast<std::uintptr_t>(memory) % 256 == 0);
  CHECK_NOTHROW(check(memory, 100));
  source.free(memory, 100);
  CHECK_THROWS_AS(source.allocate(index_t{1} << 60), CudaError);
}

TEST_CASE("memory of the device, managed memory and empty ranges are accepted") {
  void* memory = nullptr;
  REQUIRE(cudaMallocManaged(&memory, 64) == cudaSuccess);
  CHECK_NOTHROW(check(memory, 64));
  cudaFree(memory);
  CHECK_NOTHROW(check(nullptr, 0));
}

TEST_CASE("host memory is refused, pinned or not, with the name of the buffer") {
  const float on_host[4] = {};
  CHECK_THROWS_WITH_AS(check(on_host, sizeof on_host),
                       "the gradients: it is host memory; it must be memory of device 0 (cudaMalloc)",
                       BufferError);
  void* pinned = nullptr;
  REQUIRE(cudaMallocHost(&pinned, 64) == cudaSuccess);
  CHECK_THROWS_AS(check(pinned, 64), BufferError);
  cudaFreeHost(pinned);
  CHECK_THROWS_AS(check(nullptr, 4), BufferError);
  CHECK(cudaGetLastError() == cudaSuccess);
}

TEST_CASE("memory of another device is refused") {
#if defined(TESSERA_EMULATED_CUDA)
  emulated::devices(2);
#endif
  int devices = 0;
  REQUIRE(cudaGetDeviceCount(&devices) == cudaSuccess);
  if (devices < 2) MESSAGE("skipped: there is one device");
  for (int other = 1; other < devices; ++other) {
    REQUIRE(cudaSetDevice(other) == cudaSuccess);
    void* memory = nullptr;
    REQUIRE(cudaMalloc(&memory, 64) == cudaSuccess);
    REQUIRE(cudaSetDevice(0) == cudaSuccess);
    const std::string error =
        message({"the gradients: it is memory of device ", other, "; it must be memory of device 0 "});
    CHECK_THROWS_WITH_AS(check(memory, 64), doctest::Contains(error.c_str()), BufferError);
    cudaFree(memory);
  }
#if defined(TESSERA_EMULATED_CUDA)
  emulated::devices(1);
#endif
}

TEST_CASE("a span beyond the end of its allocation is refused") {
  const testing::Array<float> values(16);
  CHECK_THROWS_AS(check(values.data(), index_t{1} << 46), BufferError);
#if defined(TESSERA_EMULATED_CUDA)  // a device may give an allocation whole pages
  PlainDeviceMemory source;
  void* const memory = source.allocate(100);
  CHECK_NOTHROW(check(memory, 100));
  CHECK_THROWS_AS(check(memory, 101), BufferError);
  source.free(memory, 100);
#endif
}

}  // namespace
}  // namespace tessera
