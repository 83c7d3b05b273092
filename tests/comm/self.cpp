#include <doctest/doctest.h>

#include <chrono>
#include <vector>

#include <tessera/comm/self.hpp>

namespace tessera {
namespace {

TEST_CASE("a world of one does everything on the spot") {
  Self self;
  CHECK(self.rank() == 0);
  CHECK(self.size() == 1);
  auto queue = self.queue(std::chrono::seconds(1));
  const std::vector<float> in{1, 2.00390625f, 3};
  std::vector<float> out(5, -1);
  CHECK(queue.reduce_scatter(std::span<const float>(in), std::span<float>(out), 4, 1, {"g", 0, 0}).done());
  CHECK(out == std::vector<float>{1, 2.00390625f, 3, -1, -1});
  std::vector<bfloat16> rounded(3);
  queue.reduce_scatter(std::span<const float>(in), std::span<bfloat16>(rounded), 3, 1, {"g", 0, 0}).wait();
  CHECK(static_cast<float>(rounded[1]) == 2.0f);
  queue.reduce_scatter(std::span<const float>(in), std::span<bfloat16>(rounded), 3, 0.5f, {"g", 0, 0}).wait();
  CHECK(static_cast<float>(rounded[2]) == 1.5f);
  std::vector<float> scaled = in;
  queue.reduce_scatter(std::span<const float>(scaled), std::span<float>(scaled), 3, 0.5f, {"in place", 0, 0}).wait();
  CHECK(scaled == std::vector<float>{0.5f, 1.001953125f, 1.5f});
  std::vector<float> gathered(3);
  CHECK(queue.all_gather(std::span<const float>(in), std::span<float>(gathered), 3, {"p", 0, 0}).done());
  CHECK(gathered == in);
  CHECK(queue.all_gather(std::span<const float>(gathered), std::span<float>(gathered), 3, {"p", 0, 0}).done());
  std::vector<float> turned(3);
  queue.all_to_all(std::span<const float>(in), std::span<float>(turned), {"t", 0, 0}).wait();
  CHECK(turned == in);
  queue.all_reduce(std::span<float>(turned), {"n", 0, 0}).wait();
  queue.broadcast(std::span<float>(turned), 0, {"b", 0, 0}).wait();
  CHECK(turned == in);
  queue.drop();
}

TEST_CASE("a world of one refuses what a larger one would") {
  auto queue = Self{}.queue(std::chrono::seconds(1));
  std::vector<float> four(4), three(3);
  CHECK_THROWS_AS(queue.reduce_scatter(std::span<const float>(four), std::span<float>(four), 3, 1, {}), BufferError);
  CHECK_THROWS_AS(queue.reduce_scatter(std::span<const float>(four), std::span<float>(three), 4, 1, {}), BufferError);
  CHECK_THROWS_AS(queue.all_gather(std::span<const float>(three), std::span<float>(four), 4, {}), BufferError);
  CHECK_THROWS_AS(queue.all_to_all(std::span<const float>(three), std::span<float>(four), {}), BufferError);
  CHECK_THROWS_AS(queue.broadcast(std::span<float>(four), 1, {}), OptionError);
}

}  // namespace
}  // namespace tessera
