// The behavior on which the tests rely, above all that the emulation finds errors that would occur on a device.
#include <cuda_runtime.h>
#include <doctest/doctest.h>

#include <thread>
#include <vector>

#include "fixtures.hpp"

namespace emulated_test {
namespace {

constexpr int elements = 1000;

__global__ void fill(int* out, int n, int value) {
  for (unsigned i = blockIdx.x * blockDim.x + threadIdx.x; i < unsigned(n); i += gridDim.x * blockDim.x) out[i] = value;
}

// The sum of `in`, computed by one block of 256 threads.
__global__ void total(const int* in, int n, int* out) {
  __shared__ int sums[8];
  int sum = 0;
  for (int i = static_cast<int>(threadIdx.x); i < n; i += static_cast<int>(blockDim.x)) sum += in[i];
  for (int lanes = 16; lanes > 0; lanes /= 2) sum += __shfl_xor_sync(0xffffffff, sum, lanes);
  if (threadIdx.x % 32 == 0) sums[threadIdx.x / 32] = sum;
  __syncthreads();
  if (threadIdx.x != 0) return;
  for (int warp = 1; warp < 8; ++warp) sum += sums[warp];
  *out = sum;
}

int filled_then_summed(bool with_event) {
  Array<int> ints(elements), sum(1);
  {
    Stream fills, sums;
    Event filled;
    REQUIRE(launch(fills, 4, 64, fill, ints.data, elements, 1) == cudaSuccess);
    REQUIRE(cudaEventRecord(filled, fills) == cudaSuccess);
    if (with_event) REQUIRE(cudaStreamWaitEvent(sums, filled) == cudaSuccess);
    REQUIRE(launch(sums, 1, 256, total, ints.data, elements, sum.data) == cudaSuccess);
    REQUIRE(cudaStreamSynchronize(sums) == cudaSuccess);
  }
  return sum.values()[0];
}

}  // namespace

TEST_CASE("with an event, work on two streams is in order; without it, some seed gives another order") {
  int wrong = 0;
  for (int seed = 0; seed < seeds; ++seed) {
    emulated::seed(static_cast<std::uint64_t>(seed));
    CHECK(filled_then_summed(true) == elements);
    if (filled_then_summed(false) != elements) ++wrong;
  }
  CHECK(wrong > seeds / 4);
  CHECK(wrong < seeds);
}

TEST_CASE("work of a delayed stream runs last, unless an event requires it earlier") {
  for (int seed = 0; seed < seeds; ++seed) {
    for (const bool wanted : {false, true}) {
      emulated::seed(static_cast<std::uint64_t>(seed));
      Array<int> number(std::vector<int>{0});
      Stream late, soon;
      Event first;
      emulated::delay(late);
      launch(late, 1, 1, add, number.data, 1);
      cudaEventRecord(first, late);
      if (wanted) cudaStreamWaitEvent(soon, first);
      launch(soon, 1, 1, add, number.data, 2);
      CHECK(cudaDeviceSynchronize() == cudaSuccess);
      CHECK(number.values()[0] == (wanted ? 1 * 2 + 2 : 2 * 2 + 1));
    }
  }
}

TEST_CASE("enqueued work does not run at once, and an event reports when it has run") {
  Stream stream;
  Event done;
  int* pinned = nullptr;
  REQUIRE(cudaMallocHost(&pinned, sizeof(int)) == cudaSuccess);
  *pinned = 0;
  launch(stream, 1, 1, fill, pinned, 1, 7);
  cudaEventRecord(done, stream);
  CHECK(*pinned == 0);
  int queries = 1;
  while (cudaEventQuery(done) == cudaErrorNotReady) ++queries;
  CHECK(*pinned == 7);
  CHECK(queries < 1000);
  cudaFreeHost(pinned);
}

TEST_CASE("a wait refers to the event's last record, and has no effect for an event that was never recorded") {
  for (int seed = 0; seed < seeds; ++seed) {
    emulated::seed(static_cast<std::uint64_t>(seed));
    Array<int> number(1);
    Stream a, b;
    Event event, never;
    cudaMemset(number.data, 0, sizeof(int));
    cudaDeviceSynchronize();
    launch(a, 1, 1, add, number.data, 1);
    cudaEventRecord(event, a);
    cudaStreamWaitEvent(b, event);
    cudaStreamWaitEvent(b, never);
    cudaEventRecord(event, b);  // the wait above must not refer to it
    launch(b, 1, 1, add, number.data, 2);
    CHECK(cudaStreamSynchronize(b) == cudaSuccess);
    CHECK(number.values()[0] == 1 * 2 + 2);
  }
}

TEST_CASE("the legacy stream synchronizes with blocking streams in both directions, but not with others") {
  int wrong = 0;
  for (int seed = 0; seed < seeds; ++seed) {
    for (const bool blocking : {true, false}) {
      emulated::seed(static_cast<std::uint64_t>(seed));
      Array<int> number(1);
      Stream stream(blocking ? cudaStreamDefault : cudaStreamNonBlocking);
      cudaMemset(number.data, 0, sizeof(int));
      launch(stream, 1, 1, add, number.data, 1);
      launch(nullptr, 1, 1, add, number.data, 2);
      launch(stream, 1, 1, add, number.data, 3);
      cudaDeviceSynchronize();
      const bool right = number.values()[0] == (1 * 2 + 2) * 2 + 3;
      if (blocking) CHECK(right);
      if (!blocking && !right) ++wrong;
    }
  }
  CHECK(wrong > 0);
}

TEST_CASE("a copy reads pageable memory when it is enqueued, and pinned memory when it runs") {
  Array<int> on_device(1);
  Stream stream;
  int pageable = 1;
  cudaMemcpyAsync(on_device.data, &pageable, sizeof(int), cudaMemcpyHostToDevice, stream);
  pageable = 2;
  cudaStreamSynchronize(stream);
  CHECK(on_device.values()[0] == 1);
  int* pinned = nullptr;
  REQUIRE(cudaMallocHost(&pinned, sizeof(int)) == cudaSuccess);
  *pinned = 1;
  cudaMemcpyAsync(on_device.data, pinned, sizeof(int), cudaMemcpyHostToDevice, stream);
  *pinned = 2;
  cudaStreamSynchronize(stream);
  CHECK(on_device.values()[0] == 2);
  cudaFreeHost(pinned);
}

TEST_CASE("the host cannot access device memory, nor a device a peer's memory without peer access") {
  emulated::devices(2);
  Array<int> here(1);
  cudaSetDevice(1);
  Array<int> there(1);
  cudaSetDevice(0);
  CHECK(signal_of([&] { *here.data = 1; }) == SIGSEGV);
  const auto touches_peer = [&] {
    launch(nullptr, 1, 1, fill, there.data, 1, 7);
    cudaDeviceSynchronize();
  };
  CHECK(signal_of(touches_peer) == SIGSEGV);
  int can = 0;
  CHECK(cudaDeviceCanAccessPeer(&can, 0, 1) == cudaSuccess);
  CHECK(can == 1);
  CHECK(cudaDeviceEnablePeerAccess(1, 0) == cudaSuccess);
  CHECK(cudaDeviceEnablePeerAccess(1, 0) == cudaErrorPeerAccessAlreadyEnabled);
  touches_peer();
  CHECK(there.values()[0] == 7);
  CHECK(signal_of([&] { *there.data = 1; }) == SIGSEGV);
  emulated::devices(1);
}

TEST_CASE("a pointer's attributes tell whose memory it is") {
  Array<int> device(4);
  int plain = 0, *pinned = nullptr;
  REQUIRE(cudaMallocHost(&pinned, sizeof(int)) == cudaSuccess);
  cudaPointerAttributes attributes;
  CHECK(cudaPointerGetAttributes(&attributes, device.data + 3) == cudaSuccess);
  CHECK(attributes.type == cudaMemoryTypeDevice);
  CHECK(attributes.device == 0);
  CHECK(cudaPointerGetAttributes(&attributes, device.data + 4) == cudaSuccess);
  CHECK(attributes.type == cudaMemoryTypeUnregistered);
  CHECK(cudaPointerGetAttributes(&attributes, pinned) == cudaSuccess);
  CHECK(attributes.type == cudaMemoryTypeHost);
  CHECK(cudaPointerGetAttributes(&attributes, &plain) == cudaSuccess);
  CHECK(attributes.type == cudaMemoryTypeUnregistered);
  cudaFreeHost(pinned);
}

TEST_CASE("what CUDA rejects is rejected, and is the thread's last error") {
  Stream stream;
  int* memory = nullptr;
  CHECK(launch(stream, 0, 1, fill, memory, 0, 0) == cudaErrorInvalidConfiguration);
  CHECK(launch(stream, 1, 1025, fill, memory, 0, 0) == cudaErrorInvalidConfiguration);
  CHECK(cudaPeekAtLastError() == cudaErrorInvalidConfiguration);
  CHECK(cudaGetLastError() == cudaErrorInvalidConfiguration);
  CHECK(cudaGetLastError() == cudaSuccess);
  CHECK(cudaSetDevice(1) == cudaErrorInvalidDevice);
  CHECK(cudaMalloc(&memory, std::size_t{1} << 50) == cudaErrorMemoryAllocation);
  CHECK(cudaFree(&stream) == cudaErrorInvalidValue);
  emulated::broken(cudaErrorInsufficientDriver);
  int devices = 0;
  CHECK(cudaGetDeviceCount(&devices) == cudaErrorInsufficientDriver);
  emulated::broken(cudaSuccess);
  emulated::devices(0);
  CHECK(cudaGetDeviceCount(&devices) == cudaErrorNoDevice);
  emulated::devices(1);
  cudaGetLastError();
}

TEST_CASE("a stream or event of one device is rejected while another device is current") {
  emulated::devices(2);
  Stream stream;
  cudaSetDevice(1);
  Event event;
  CHECK(launch(stream, 1, 1, fill, static_cast<int*>(nullptr), 0, 0) == cudaErrorInvalidResourceHandle);
  CHECK(cudaEventRecord(event, stream) == cudaErrorInvalidResourceHandle);
  cudaSetDevice(0);
  emulated::devices(1);
  cudaGetLastError();
}

TEST_CASE(
    "a wait for a stream ends after another thread has enqueued the missing work; a host function may wait") {
  for (int seed = 0; seed < 5; ++seed) {
    emulated::seed(static_cast<std::uint64_t>(seed));
    struct Gate {
      std::mutex mutex;
      std::condition_variable opened;
      bool open = false;
    } gate;
    Stream waits, feeds;
    Array<int> number(std::vector<int>{0});
    const auto wait = [](void* of) {
      Gate& gate = *static_cast<Gate*>(of);
      std::unique_lock lock(gate.mutex);
      gate.opened.wait(lock, [&] { return gate.open; });
    };
    CHECK(cudaLaunchHostFunc(waits, wait, &gate) == cudaSuccess);
    launch(waits, 1, 1, add, number.data, 1);
    std::thread other([&] {
      launch(feeds, 1, 1, fill, number.data, 1, 5);
      CHECK(cudaStreamSynchronize(feeds) == cudaSuccess);
      const std::unique_lock lock(gate.mutex);
      gate.open = true;
      gate.opened.notify_all();
    });
    CHECK(cudaStreamSynchronize(waits) == cudaSuccess);
    other.join();
    CHECK(number.values()[0] == 11);
  }
}

}  // namespace emulated_test
