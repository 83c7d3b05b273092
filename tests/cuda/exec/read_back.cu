#include <tessera/cuda/exec/read_back.cuh>

#include <cuda_runtime.h>
#include <doctest/doctest.h>

#include <memory>
#include <vector>

#include "cuda/array.hpp"

namespace tessera {
namespace {

struct Fixture {
  CudaStream stream;
  std::shared_ptr<device::ReadBackSlots> slots = std::make_shared<device::ReadBackSlots>();
  testing::Array<int> value{1};

  // A value whose four bytes are equal.
  static int bytes(int byte) { return bits_as<int>(0x01010101u * static_cast<unsigned>(byte)); }
  void write(int byte) { REQUIRE(cudaMemsetAsync(value.data(), byte, sizeof(int), stream.get()) == cudaSuccess); }
  CudaReadBack<int> read() { return {value.data(), stream.get(), slots}; }
};

TEST_CASE_FIXTURE(Fixture, "a value is the one at its position in the stream's order, whenever it is requested") {
  write(1);
  const auto one = read();
  write(2);
  const auto two = read();
  CHECK(two.get() == bytes(2));
  CHECK(one.get() == bytes(1));
  CHECK(one.arrived());
  CHECK(CudaReadBack<int>{}.get() == 0);
  CHECK(CudaReadBack<int>{}.arrived());
}

TEST_CASE_FIXTURE(Fixture, "values that are still held are never overwritten, however many there are") {
  std::vector<CudaReadBack<int>> kept;
  for (int i = 0; i < 150; ++i) {
    write(i);
    kept.push_back(read());
    static_cast<void>(read());  // and one that is not held
  }
  for (int i = 0; i < 150; ++i) CHECK(kept[static_cast<std::size_t>(i)].get() == bytes(i));
}

TEST_CASE("a value outlives the slots from which it came") {
  CudaReadBack<int> kept;
  {
    Fixture fixture;
    fixture.write(3);
    kept = fixture.read();
    const auto copy = kept;
    CHECK(copy.get() == Fixture::bytes(3));
  }
  CHECK(kept.get() == Fixture::bytes(3));
}

TEST_CASE_FIXTURE(Fixture, "captured, it has the value of the latest replay, and its slot has no other value") {
  std::vector<CudaReadBack<int>> kept;
  testing::Capture graph(stream.get());
  auto captured = read();
  for (int i = 0; i < 100; ++i) kept.push_back(read());  // more than the free slots
  graph.end();
  kept.clear();  // the graph still writes there
  write(5);
  for (int i = 0; i < 150; ++i) kept.push_back(read());
  for (int turn = 6; turn < 9; ++turn) {
    write(turn);
    graph.launch();
    REQUIRE(cudaStreamSynchronize(stream.get()) == cudaSuccess);
    CHECK(captured.arrived());
    CHECK(captured.get() == bytes(turn));
  }
  for (const auto& each : kept) CHECK(each.get() == bytes(5));
}

}  // namespace
}  // namespace tessera
