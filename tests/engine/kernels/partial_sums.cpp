#include <doctest/doctest.h>

#include <initializer_list>
#include <vector>

#include <tessera/core/bfloat16.hpp>
#include <tessera/core/float16.hpp>
#include <tessera/engine/kernels/partial_sums.hpp>
#include <tessera/exec/host.hpp>

namespace tessera::engine {
namespace {

TEST_CASE("the older partial sum is added first, and the newer one gets the result") {
  const std::vector<float> older{1, 2, 1e8f};
  std::vector<float> sum{10, 20, -1e8f};
  Host host;
  host.for_each(3, AddOlder{older.data(), sum.data()});
  CHECK(sum == std::vector<float>{11, 22, 0});
  CHECK(older == std::vector<float>{1, 2, 1e8f});
}

TEST_CASE("a sum is scaled in fp32 and rounded once, ties to even") {
  // A bfloat16 has eight significant bits: 257 lies halfway between 256 and 258, and 259 between 258 and 260.
  const std::vector<float> sum{3.0f, 2 * 257.0f, 2 * 259.0f};
  std::vector<bfloat16> out(3);
  Host host;
  host.for_each(3, Round<bfloat16>{sum.data(), out.data(), 0.5f});
  CHECK(static_cast<float>(out[0]) == 1.5f);
  CHECK(static_cast<float>(out[1]) == 256.0f);
  CHECK(static_cast<float>(out[2]) == 260.0f);
}

TEST_CASE("a float sum is divided by all micro-batches after it is rounded") {
  for (const bool ordered : {false, true}) {
    CHECK(mean_of<float>(6, ordered).scale == 1);
    CHECK(mean_of<float>(6, ordered).divisor == 6);
  }
}

TEST_CASE("an ordered 16-bit sum is scaled by 1/M and rounded once, and is not divided later") {
  for (int m = 1; m <= 3000; ++m) {
    CHECK(mean_of<bfloat16>(m, true).scale == 1.0f / static_cast<float>(m));
    CHECK(mean_of<float16>(m, true).scale == 1.0f / static_cast<float>(m));
    CHECK(mean_of<bfloat16>(m, true).divisor == 1);
  }
}

TEST_CASE("a native sum is not scaled in bfloat16, and is scaled in float16 by the float16 value next to 1/M") {
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
}  // namespace tessera::engine
