#include <doctest/doctest.h>

#include <chrono>
#include <vector>

#include <tessera/comm/self.hpp>

namespace tessera {
namespace {

TEST_CASE("a world of one rank completes every call at once") {
  Self self;
  CHECK(self.rank() == 0);
  CHECK(self.size() == 1);
  auto queue = self.queue(std::chrono::seconds(1));
  const std::vector<float> in{1, 2.00390625f, 3};
  std::vector<float> out(5, -1);
  CHECK(queue.post(ReduceScatter(std::span<const float>(in), std::span<float>(out), 4, {"g", 0, 0})).done());
  CHECK(out == std::vector<float>{1, 2.00390625f, 3, -1, -1});
  std::vector<bfloat16> rounded(3);
  queue.post(ReduceScatter(std::span<const float>(in), std::span<bfloat16>(rounded), 3, {"g", 0, 0})).wait();
  CHECK(static_cast<float>(rounded[1]) == 2.0f);
  queue.post(ReduceScatter(std::span<const float>(in), std::span<bfloat16>(rounded), 3, {"g", 0, 0}, 0.5f)).wait();
  CHECK(static_cast<float>(rounded[2]) == 1.5f);
  std::vector<float> scaled = in;
  queue.post(ReduceScatter(std::span<const float>(scaled), std::span<float>(scaled), 3, {"in place", 0, 0}, 0.5f))
      .wait();
  CHECK(scaled == std::vector<float>{0.5f, 1.001953125f, 1.5f});
  std::vector<float> gathered(3);
  CHECK(queue.post(AllGather(std::span<const float>(in), std::span<float>(gathered), 3, {"p", 0, 0})).done());
  CHECK(gathered == in);
  CHECK(queue.post(AllGather(std::span<const float>(gathered), std::span<float>(gathered), 3, {"p", 0, 0})).done());
  std::vector<float> turned(3);
  queue.post(AllToAll(std::span<const float>(in), std::span<float>(turned), {"t", 0, 0})).wait();
  CHECK(turned == in);
  queue.post(AllReduce(std::span<float>(turned), {"n", 0, 0})).wait();
  queue.post(Broadcast(std::span<float>(turned), 0, {"b", 0, 0})).wait();
  CHECK(turned == in);
  queue.drop();
}

TEST_CASE("a world of one rank handles every piece of a call, and every call of several") {
  auto queue = Self{}.queue(std::chrono::seconds(1));
  const std::vector<float> in{1, 2, 3};
  std::vector<float> out(3);
  const std::span<const float> from(in);
  const std::span<float> to(out);
  const std::vector<Piece<float>> pieces{{from.first(1), to.last(1), 1}, {from.last(2), to.first(2), 2}};
  queue.post(ReduceScatter<float>(pieces, {"g"}, 2)).wait();
  CHECK(out == std::vector<float>{4, 6, 2});
  const std::vector<AllGather<float>> calls{{from.first(2), to.last(2), 2, {"p"}},
                                            {from.first(1), to.first(1), 1, {"p"}}};
  queue.post(std::span<const AllGather<float>>(calls)).wait();
  CHECK(out == std::vector<float>{1, 1, 2});
}

TEST_CASE("a world of one rank continues the sums of every piece, and adds nothing in a pass without a micro-batch") {
  auto queue = Self{}.queue(std::chrono::seconds(1));
  std::vector<float> in{1, 2, 3}, out(3), sums(3);
  const std::span<const float> from(in);
  const std::span<float> to(out);
  const std::vector<Piece<float>> pieces{{from.first(1), to.first(1), 1, sums.data()},
                                         {from.last(2), to.last(2), 2, sums.data() + 1}};
  ReduceScatter<float> call(pieces, {"g"}, 0.5f);
  call.carry = {.stride = 3, .last = false};
  queue.post(call).wait();
  CHECK(sums == in);
  in = {10, 20, 30};
  call.carry.before = 1;
  call.carry.leaves = 0;
  call.carry.last = true;
  queue.post(call).wait();
  CHECK(out == std::vector<float>{0.5f, 1, 1.5f});
  call.carry.leaves = Carry::every_rank;
  queue.post(call).wait();
  CHECK(out == std::vector<float>{5.5f, 11, 16.5f});
}

TEST_CASE("a world of one rank refuses the same calls as a larger one") {
  auto queue = Self{}.queue(std::chrono::seconds(1));
  std::vector<float> four(4), three(3);
  CHECK_THROWS_AS(queue.post(ReduceScatter(std::span<const float>(four), std::span<float>(four), 3, {})), BufferError);
  CHECK_THROWS_AS(queue.post(ReduceScatter(std::span<const float>(four), std::span<float>(three), 4, {})), BufferError);
  CHECK_THROWS_AS(queue.post(AllGather(std::span<const float>(three), std::span<float>(four), 4, {})), BufferError);
  CHECK_THROWS_AS(queue.post(AllToAll(std::span<const float>(three), std::span<float>(four), {})), BufferError);
  CHECK_THROWS_AS(queue.post(Broadcast(std::span<float>(four), 1, {})), OptionError);
}

}  // namespace
}  // namespace tessera
