#include <doctest/doctest.h>

#include <thread>
#include <vector>

#include <tessera/core/atomic.hpp>

namespace tessera {
namespace {

TEST_CASE("lower_to lowers a number and never raises it") {
  std::uint64_t number = 7;
  core::lower_to(&number, 9);
  CHECK(number == 7);
  core::lower_to(&number, 3);
  CHECK(number == 3);
  core::lower_to(&number, 3);
  CHECK(number == 3);
}

TEST_CASE("the lowest of the values from many threads remains") {
  for (int round = 0; round < 20; ++round) {
    std::uint64_t number = ~std::uint64_t{0};
    std::vector<std::thread> threads;
    for (std::uint64_t t = 0; t < 4; ++t)
      threads.emplace_back([&number, t] {
        for (std::uint64_t i = 1000; i > 0; --i) core::lower_to(&number, 4 * i + t);
      });
    for (std::thread& thread : threads) thread.join();
    CHECK(number == 4);
  }
}

}  // namespace
}  // namespace tessera
