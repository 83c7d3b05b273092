// Threads of a block in the emulation: barriers, warps, atomics.
#include <cuda_runtime.h>
#include <doctest/doctest.h>

#include <cub/block/block_reduce.cuh>
#include <vector>

#include "fixtures.hpp"

namespace emulated_test {
namespace {

// Reverses 64 ints through shared memory.
template <bool with_barrier>
__global__ void turn(int* ints) {
  __shared__ int kept[64];
  kept[threadIdx.x] = ints[threadIdx.x];
  if (with_barrier) __syncthreads();
  ints[threadIdx.x] = kept[63 - threadIdx.x];
}

}  // namespace

TEST_CASE("threads of a block synchronize at barriers and in warps, and a missing barrier is found") {
  int wrong = 0;
  for (int seed = 0; seed < seeds; ++seed) {
    emulated::seed(static_cast<std::uint64_t>(seed));
    for (const bool with_barrier : {true, false}) {
      std::vector<int> ints(64);
      for (int i = 0; i < 64; ++i) ints[static_cast<std::size_t>(i)] = seed + i;
      Array<int> on_device(64);
      cudaMemcpy(on_device.data, ints.data(), 64 * sizeof(int), cudaMemcpyHostToDevice);
      launch(nullptr, 1, 64, with_barrier ? turn<true> : turn<false>, on_device.data);
      cudaMemcpy(ints.data(), on_device.data, 64 * sizeof(int), cudaMemcpyDeviceToHost);
      bool right = true;
      for (int i = 0; i < 64; ++i) right = right && ints[static_cast<std::size_t>(i)] == seed + 63 - i;
      if (with_barrier) CHECK(right);
      if (!with_barrier && !right) ++wrong;
    }
  }
  CHECK(wrong == seeds);
}

namespace {

__global__ void exchange(unsigned* out, unsigned lanes) {
  const unsigned lane = threadIdx.x;
  const unsigned mask = lanes == 32 ? 0xffffffff : (1u << lanes) - 1;
  unsigned* mine = out + lane * 5;
  mine[0] = __shfl_down_sync(mask, lane, 1);
  mine[1] = __shfl_xor_sync(mask, lane, 3, 4);
  mine[2] = __shfl_sync(mask, lane, 2);
  mine[3] = __ballot_sync(mask, lane % 3 == 0);
  mine[4] = __any_sync(mask, lane == 5) ? __all_sync(mask, lane < lanes) : 9;
}

__global__ void count(unsigned long long* counter, int* least, int* sum) {
  using Reduce = cub::BlockReduce<int, 96>;
  __shared__ Reduce::TempStorage storage;
  atomicAdd(counter, 2);
  atomicMin(least, -static_cast<int>(threadIdx.x));
  const int total = Reduce(storage).Sum(static_cast<int>(threadIdx.x));
  if (threadIdx.x == 0) *sum = total;
}

}  // namespace

TEST_CASE("lanes of a warp exchange values, also in a partial warp") {
  for (const unsigned lanes : {32u, 7u}) {
    unsigned* out = nullptr;
    REQUIRE(cudaMallocManaged(&out, lanes * 5 * sizeof(unsigned)) == cudaSuccess);
    launch(nullptr, 1, lanes, exchange, out, lanes);
    REQUIRE(cudaDeviceSynchronize() == cudaSuccess);
    for (unsigned lane = 0; lane < lanes; ++lane) {
      const unsigned* mine = out + lane * 5;
      CHECK(mine[0] == (lane + 1 < lanes ? lane + 1 : lane));
      CHECK(mine[1] == ((lane ^ 3) < lanes ? lane ^ 3 : lane));
      CHECK(mine[2] == 2);
      CHECK(mine[3] == (lanes == 32 ? 0x49249249u : 0x49u));
      CHECK(mine[4] == 1);
    }
    cudaFree(out);
  }
}

TEST_CASE("atomics count every thread of every block, and a block's sum all of its threads") {
  struct Out {
    unsigned long long counter;
    int least, sum;
  };
  Out* out = nullptr;
  REQUIRE(cudaMallocManaged(&out, sizeof(Out)) == cudaSuccess);
  *out = {};
  launch(nullptr, 5, 96, count, &out->counter, &out->least, &out->sum);
  REQUIRE(cudaDeviceSynchronize() == cudaSuccess);
  CHECK(out->counter == 2 * 5 * 96);
  CHECK(out->least == -95);
  CHECK(out->sum == 95 * 96 / 2);
  cudaFree(out);
}

TEST_CASE("threads that cannot all reach a barrier end the program, as do lanes outside their mask") {
  const auto runs = [](void (*kernel)()) {
    return signal_of([=] {
      launch(nullptr, 1, 64, kernel);
      cudaDeviceSynchronize();
    });
  };
  CHECK(runs([] { __syncthreads(); }) == 0);
  CHECK(runs([] {
          if (threadIdx.x > 0) __syncthreads();
        }) == SIGABRT);
  CHECK(runs([] { __syncwarp(1); }) == SIGABRT);
}

}  // namespace emulated_test
