#include <cuda_runtime.h>
#include <doctest/doctest.h>

#include <chrono>
#include <vector>

#include <tessera/cuda/local/self.cuh>

#include "cuda/array.hpp"
#include "cuda/ranks.hpp"

namespace tessera {
namespace {

static_assert(Communicator<CudaSelf> && CudaSelf::ordered);
static_assert(!std::movable<CudaSelf::Queue>);

using Floats = std::vector<float>;
using Memory = testing::DeviceMemory<float>;

struct Fill {
  float* to;
  float value;
  TESSERA_HD void operator()(index_t i) const noexcept { to[i] = value; }
};

struct Add {
  const float* from;
  float* to;
  TESSERA_HD void operator()(index_t i) const noexcept { to[i] = to[i] + from[i]; }
};

TEST_CASE("a world of one rank only copies, scales and rounds") {
  CudaSelf self;
  CHECK(self.rank() == 0);
  CHECK(self.size() == 1);
  auto queue = self.queue(std::chrono::seconds(1));
  const Floats numbers{1, 2.00390625f, 3};
  Memory in(numbers), out(Floats(5, -1)), gathered(Floats(3)), turned(Floats(3));
  testing::DeviceMemory<bfloat16> rounded(std::vector<bfloat16>(3));
  queue.post(ReduceScatter(in.in(), out.out(), 4, {"g", 0, 0})).wait();
  CHECK(out.get() == Floats{1, 2.00390625f, 3, -1, -1});
  queue.post(ReduceScatter(in.in(), rounded.out(), 3, {"g", 0, 0})).wait();
  CHECK(static_cast<float>(rounded.get()[1]) == 2.0f);
  queue.post(ReduceScatter(in.in(), in.out(), 3, {"in place", 0, 0})).wait();
  CHECK(in.get() == numbers);
  Memory scaled(numbers);
  queue.post(ReduceScatter(scaled.in(), scaled.out(), 3, {"in place", 0, 0}, 0.5f)).wait();
  CHECK(scaled.get() == Floats{0.5f, 1.001953125f, 1.5f});
  queue.post(AllGather(in.in(), gathered.out(), 3, {"p", 0, 0})).wait();
  queue.post(AllGather(gathered.in(), gathered.out(), 3, {"in place", 0, 0})).wait();
  CHECK(gathered.get() == numbers);
  queue.post(AllToAll(in.in(), turned.out(), {"t", 0, 0})).wait();
  queue.post(AllReduce(turned.out(), {"n", 0, 0})).wait();
  queue.post(Broadcast(turned.out(), 0, {"b", 0, 0})).wait();
  CHECK(turned.get() == numbers);
  queue.drop();
}

TEST_CASE("a world of one rank continues the sums of every piece, and adds nothing in a pass without a micro-batch") {
  auto queue = CudaSelf().queue(std::chrono::seconds(1));
  Memory in(Floats{1, 2, 3}), next(Floats{10, 20, 30}), out(Floats(3)), sums(Floats(3));
  const auto pieces = [&](const Memory& from) {
    float* const kept = sums.out().data();
    return std::vector<Piece<float>>{{from.in().first(1), out.out().first(1), 1, kept},
                                     {from.in().last(2), out.out().last(2), 2, kept + 1}};
  };
  const auto post = [&](const Memory& from, const Carry& carry) {
    const auto both = pieces(from);
    ReduceScatter<float> call(both, {"g"}, 0.5f);
    call.carry = carry;
    queue.post(call).wait();
  };
  post(in, {.stride = 3, .last = false});
  CHECK(sums.get() == Floats{1, 2, 3});
  post(next, {.stride = 3, .before = 1, .leaves = 0});
  CHECK(out.get() == Floats{0.5f, 1, 1.5f});
  post(next, {.stride = 3, .before = 1});
  CHECK(out.get() == Floats{5.5f, 11, 16.5f});
}

TEST_CASE("a world of one rank refuses the same calls as a larger one") {
  auto queue = CudaSelf().queue(std::chrono::seconds(1));
  Memory four(Floats(4)), three(Floats(3));
  CHECK_THROWS_AS(queue.post(ReduceScatter(four.in(), four.out(), 3, {})), BufferError);
  CHECK_THROWS_AS(queue.post(ReduceScatter(four.in(), three.out(), 4, {})), BufferError);
  CHECK_THROWS_AS(queue.post(AllGather(three.in(), four.out(), 4, {})), BufferError);
  CHECK_THROWS_AS(queue.post(AllToAll(three.in(), four.out(), {})), BufferError);
  CHECK_THROWS_AS(queue.post(Broadcast(four.out(), 1, {})), OptionError);
}

TEST_CASE("a collective begins after its event, and work that waits for its event begins after it") {
  CudaSelf self;
  Cuda executor = self.executor();
  auto queue = self.queue(std::chrono::seconds(1));
  Memory in(Floats(1000, 1)), out(Floats(1000)), sum(Floats(1000));
  testing::delay(executor.stream());
  executor.for_each(1000, Fill{in.out().data(), 2});
  const CudaEvent event = queue.post(ReduceScatter(in.in(), out.out(), 1000, {"g", 0, 0}), executor.record());
  executor.wait(event);
  executor.for_each(1000, Fill{in.out().data(), 5});  // the caller may write the input again
  executor.for_each(1000, Add{out.in().data(), sum.out().data()});
  executor.record().wait();
  CHECK(sum.get() == Floats(1000, 2));
}

TEST_CASE("a collective that moves nothing still comes after the previous one, which may have written its memory") {
  CudaSelf self;
  Cuda late = Cuda(), executor = self.executor();
  auto queue = self.queue(std::chrono::seconds(1));
  Memory in(Floats(1000, 1)), out(Floats(1000)), sum(Floats(1000));
  testing::delay(late.stream());
  late.for_each(1000, Fill{in.out().data(), 2});
  queue.post(AllGather(in.in(), out.out(), 1000, {"p", 0, 0}), late.record());
  executor.wait(queue.post(AllReduce(out.out(), {"x", 0, 0}), executor.record()));
  executor.for_each(1000, Add{out.in().data(), sum.out().data()});
  executor.record().wait();
  CHECK(sum.get() == Floats(1000, 2));
}

TEST_CASE("after a drop nothing accesses the memory") {
  CudaSelf self;
  Cuda executor = self.executor();
  auto queue = self.queue(std::chrono::seconds(1));
  Memory in(Floats(1000, 1)), out(Floats(1000));
  testing::delay(executor.stream());
  executor.for_each(1000, Fill{in.out().data(), 2});
  const CudaEvent event = queue.post(AllGather(in.in(), out.out(), 1000, {"p", 0, 0}), executor.record());
  queue.drop();
  CHECK(event.done());
  CHECK(out.get() == Floats(1000, 2));
}

TEST_CASE("a captured graph contains the collectives, and each launch has the bits of the plain run") {
  cudaStream_t stream = nullptr;
  REQUIRE(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking) == cudaSuccess);
  {
    CudaSelf self(stream);
    CHECK(self.executor().stream() == stream);
    Cuda executor = self.executor();
    auto reductions = self.queue(std::chrono::seconds(1)), gathers = self.queue(std::chrono::seconds(1));
    Memory in(Floats(1000, 0)), sums(Floats(1000, 0)), out(Floats(1000, 0)), one(Floats(1000, 0.1f));
    const auto step = [&] {
      executor.for_each(1000, Add{one.in().data(), in.out().data()});
      executor.wait(reductions.post(ReduceScatter(in.in(), sums.out(), 1000, {"g", 0, 0}), executor.record()));
      executor.for_each(1000, Add{one.in().data(), sums.out().data()});
      executor.wait(gathers.post(AllGather(sums.in(), out.out(), 1000, {"p", 0, 0}), executor.record()));
      executor.for_each(1000, Add{out.in().data(), in.out().data()});
    };
    for (int i = 0; i < 4; ++i) step();
    executor.record().wait();
    const Floats plain = in.get();

    Memory zero(Floats(1000, 0));
    REQUIRE(cudaMemcpy(in.out().data(), zero.in().data(), 4000, cudaMemcpyDeviceToDevice) == cudaSuccess);
    REQUIRE(cudaDeviceSynchronize() == cudaSuccess);
    testing::Capture capture(stream);
    step();
    capture.end();
    for (int i = 0; i < 4; ++i) capture.launch();
    REQUIRE(cudaStreamSynchronize(stream) == cudaSuccess);
    CHECK(in.get() == plain);
  }
  cudaStreamDestroy(stream);
}

}  // namespace
}  // namespace tessera
