#include <doctest/doctest.h>

#include <initializer_list>

#include <tessera/core/float16.hpp>
#include <tessera/engine/mean.hpp>

namespace tessera {
namespace {

TEST_CASE("a sum in float is divided after it is rounded, by all micro-batches") {
  for (const bool ordered : {false, true}) {
    CHECK(mean_of<float>(6, ordered).scale == 1);
    CHECK(mean_of<float>(6, ordered).divisor == 6);
  }
}

TEST_CASE("an ordered sum in 16 bits is scaled by 1/M, rounded to float once, and nothing is left to divide by") {
  for (int m = 1; m <= 3000; ++m) {
    CHECK(mean_of<bfloat16>(m, true).scale == 1.0f / static_cast<float>(m));
    CHECK(mean_of<float16>(m, true).scale == 1.0f / static_cast<float>(m));
    CHECK(mean_of<bfloat16>(m, true).divisor == 1);
  }
}

TEST_CASE("a library's sum in bfloat16 is not scaled, and one in float16 by what float16 has next to 1/M") {
  CHECK(mean_of<bfloat16>(6, false).scale == 1);
  CHECK(mean_of<bfloat16>(6, false).divisor == 6);
  CHECK(mean_of<float16>(8, false).scale == 0.125f);
  CHECK(mean_of<float16>(8, false).divisor == 1);
  for (const double m : {1.0, 3.0, 7.0, 1000.0, 16383.0, 20000.0, 1e9}) {
    const Mean mean = mean_of<float16>(m, false);
    CHECK(static_cast<float>(float16(mean.scale)) == mean.scale);
    CHECK(mean.scale >= 0x1p-14f);
    CHECK(static_cast<double>(mean.scale) / mean.divisor == doctest::Approx(1 / m).epsilon(1e-15));
    if (m < 16384) CHECK(mean.divisor == doctest::Approx(1).epsilon(0x1p-11));
  }
}

}  // namespace
}  // namespace tessera
