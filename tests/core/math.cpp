#include <doctest/doctest.h>

#include <cmath>

#include <tessera/core/math.hpp>

namespace tessera {
namespace {

TEST_CASE("division rounds up, also beyond 2^31 and at zero") {
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

TEST_CASE("the root that vectorises is the correctly rounded one") {
  for (int i = 1; i < 100000; ++i) {
    const float x = static_cast<float>(i) * 0.37f;
    REQUIRE(::sqrtf(x) == static_cast<float>(std::sqrt(static_cast<double>(x))));
  }
}

}  // namespace
}  // namespace tessera
