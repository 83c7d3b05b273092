#include <tessera/cuda/runtime/event.cuh>

#include <cuda_runtime.h>
#include <doctest/doctest.h>

#include <cstdint>
#include <stdexcept>

#include "cuda/array.hpp"

namespace tessera {
namespace {

using testing::Array;

// Two streams, and a value that one writes and the other copies.
struct Streams {
  CudaStream first, second;
  EventRing of_first, of_second;
  Array<std::uint8_t> value{1}, copy{1};

  void write(int to) { REQUIRE(cudaMemsetAsync(value.data(), to, 1, first.get()) == cudaSuccess); }
  void read() {
    REQUIRE(cudaMemcpyAsync(copy.data(), value.data(), 1, cudaMemcpyDeviceToDevice, second.get()) == cudaSuccess);
  }
};

TEST_CASE("a stream continues after an event of another stream") {
  Streams s;
  for (int turn = 1; turn <= 50; ++turn) {
    s.write(turn);
    CudaEvent(s.of_first.record(s.first.get())).hold(s.second.get());
    s.read();
    CudaEvent(s.of_second.record(s.second.get())).hold(s.first.get());  // otherwise the next write could be too early
  }
  CHECK(s.copy.get()[0] == 50);
}

TEST_CASE("a default-constructed event is complete") {
  const CudaStream stream;
  const CudaEvent event;
  CHECK(event.done());
  event.wait();
  event.hold(stream.get());
}

TEST_CASE("the host waits for an event, which is then complete, also for its copies") {
  Streams s;
  s.write(7);
  const CudaEvent event(s.of_first.record(s.first.get())), copy = event;
  event.wait();
  CHECK(copy.done());
}

TEST_CASE("an old handle of a ring may wait for later work of the stream, never for less") {
  Streams s;
  EventRing two(2);
  s.write(1);
  const CudaEvent first(two.record(s.first.get()));
  for (int turn = 2; turn <= 6; ++turn) {
    s.write(turn);
    two.record(s.first.get());
  }
  first.hold(s.second.get());
  s.read();
  CHECK(s.copy.get()[0] >= 1);
}

struct Posted final : Completion {
  bool is_done = false;
  int waits = 0;
  bool fails = false;
  bool done(std::uint64_t ticket) const noexcept override { return is_done && ticket == 3; }
  void wait(std::uint64_t ticket) override {
    CHECK(ticket == 3);
    ++waits;
    if (fails) throw std::runtime_error("a rank left");
  }
};

TEST_CASE("the rendezvous of an event comes before any use of it, and is checked again at the end of a wait") {
  Streams s;
  Posted posted;
  const CudaEvent event(s.of_first.record(s.first.get()), &posted, 3);
  event.hold(s.second.get());
  CHECK(posted.waits == 1);
  CHECK_FALSE(event.done());
  event.wait();
  CHECK(posted.waits == 3);
  posted.is_done = true;
  CHECK(event.done());
  posted.fails = true;
  CHECK_THROWS_WITH(event.hold(s.second.get()), "a rank left");
  CHECK_THROWS_WITH(event.wait(), "a rank left");
}

TEST_CASE("another thread may record a ring's next event") {
  Streams s;
  const cudaEvent_t next = s.of_first.next();
  CHECK(s.of_first.next() != next);
  s.write(7);
  REQUIRE(cudaEventRecord(next, s.first.get()) == cudaSuccess);
  const CudaEvent event(next);
  CHECK(event.after_rendezvous() == next);
  CHECK_FALSE(event.captured());
  event.hold(s.second.get());
  s.read();
  CudaEvent(s.of_second.record(s.second.get())).wait();
  CHECK(s.copy.get()[0] == 7);
  CHECK(CudaEvent().after_rendezvous() == nullptr);
}

TEST_CASE("captured events order a graph's branches at each launch") {
  Streams s;
  testing::Capture graph(s.first.get());
  s.write(9);
  CudaEvent(s.of_first.record(s.first.get())).hold(s.second.get());
  s.read();
  CudaEvent(s.of_second.record(s.second.get())).hold(s.first.get());
  s.write(0);
  const CudaEvent inside(s.of_first.record(s.first.get()));
  graph.end();
  for (int turn = 0; turn < 10; ++turn) {
    s.copy.set({1});
    graph.launch();
    CHECK(s.copy.get()[0] == 9);
    CHECK(s.value.get()[0] == 0);
  }
  // The capture has ended: launches of the graph order later work.
  CHECK(inside.done());
  inside.wait();
  inside.hold(s.first.get());
  inside.hold(s.second.get());
}

TEST_CASE("an event from before a capture is waited for by the host, and is not part of the graph") {
  Streams s;
  s.write(4);
  const CudaEvent before(s.of_first.record(s.first.get()));
  testing::Capture graph(s.second.get());
  before.hold(s.second.get());
  s.read();
  graph.end();
  graph.launch();
  CHECK(s.copy.get()[0] == 4);
}

}  // namespace
}  // namespace tessera
