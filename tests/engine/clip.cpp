#include <doctest/doctest.h>

#include <limits>
#include <vector>

#include <tessera/engine/clip.hpp>
#include <tessera/exec/host.hpp>

namespace tessera {
namespace {

TEST_CASE("the norm is of the mean: the root of the sum of squares over the number of micro-batches") {
  CHECK(gradient_norm(25.0, 1) == 5.0);
  CHECK(gradient_norm(25.0, 2) == 2.5);
}

TEST_CASE("gradients below the norm are averaged and no more, above it scaled down to it") {
  const double infinity = std::numeric_limits<double>::infinity();
  CHECK(gradient_scale(123, infinity, 4) == 0.25f);
  CHECK(gradient_scale(0.5, 1, 4) == 0.25f);
  CHECK(gradient_scale(0, 1, 1) == 1.0f);
  CHECK(gradient_scale(2, 1, 1) == static_cast<float>(1 / (2 + 1e-6)));
  CHECK(gradient_scale(2, 1, 3) == static_cast<float>(1 / (2 + 1e-6) / 3));
}

TEST_CASE("the first element that is not finite is known by its place, in whatever order ranges come") {
  Host host;
  SquareSum sum;
  std::vector<float> values(128, 1.0f);
  sum.add(host, std::span<const float>(values), {256, 384});
  CHECK(sum.first_non_finite == -1);
  values[5] = std::numeric_limits<float>::infinity();
  sum.add(host, std::span<const float>(values), {256, 384});
  CHECK(sum.first_non_finite == 261);
  sum.add(host, std::span<const float>(values), {64, 192});
  CHECK(sum.first_non_finite == 69);
  sum.add(host, std::span<const float>(values), {512, 640});
  CHECK(sum.first_non_finite == 69);
}

}  // namespace
}  // namespace tessera
