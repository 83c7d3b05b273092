#include <doctest/doctest.h>

#include <cmath>
#include <initializer_list>

#include <tessera/core/math.hpp>

namespace tessera {
namespace {

TEST_CASE("division rounds up, also beyond 2^31 and for zero") {
  CHECK(ceil_div(0, 64) == 0);
  CHECK(ceil_div(1, 64) == 1);
  CHECK(ceil_div(64, 64) == 1);
  CHECK(ceil_div(65, 64) == 2);
  CHECK(ceil_div((index_t{1} << 40) + 1, index_t{1} << 20) == (index_t{1} << 20) + 1);
}

TEST_CASE("rounding up gives the next multiple") {
  CHECK(round_up(0, block) == 0);
  CHECK(round_up(1, block) == 64);
  CHECK(round_up(64, block) == 64);
  CHECK(round_up((index_t{1} << 33) + 1, block) == (index_t{1} << 33) + 64);
}

TEST_CASE("the square root that vectorizes is correctly rounded") {
  for (int i = 1; i < 100000; ++i) {
    const float x = static_cast<float>(i) * 0.37f;
    REQUIRE(::sqrtf(x) == static_cast<float>(std::sqrt(static_cast<double>(x))));
  }
}

TEST_CASE("a partition point is found with few evaluations") {
  for (const index_t n : {0, 1, 2, 3, 7, 8, 1000})
    for (index_t border = 0; border <= n; ++border) {
      int questions = 0;
      CHECK(core::partition_point(n, [&](index_t i) { return ++questions, i < border; }) == border);
      CHECK(questions <= 10);
    }
  int questions = 0;
  const index_t most = index_t{1} << 62;
  CHECK(core::partition_point(most, [&](index_t i) { return ++questions, i < most - 5; }) == most - 5);
  CHECK(questions <= 63);
}

}  // namespace
}  // namespace tessera
