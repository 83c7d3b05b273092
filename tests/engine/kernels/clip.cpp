#include <doctest/doctest.h>

#include <limits>
#include <span>
#include <vector>

#include <tessera/engine/kernels/clip.hpp>
#include <tessera/exec/host.hpp>

namespace tessera::engine {
namespace {

TEST_CASE("the norm is that of the mean: the root of the sum of squares, divided by the number of micro-batches") {
  CHECK(gradient_norm(25.0, 1) == 5.0);
  CHECK(gradient_norm(25.0, 2) == 2.5);
}

TEST_CASE("gradients below clip_norm are averaged only, gradients above it are also scaled down to it") {
  const double infinity = std::numeric_limits<double>::infinity();
  CHECK(gradient_scale(123, infinity, 4) == 0.25f);
  CHECK(gradient_scale(0.5, 1, 4) == 0.25f);
  CHECK(gradient_scale(0, 1, 1) == 1.0f);
  CHECK(gradient_scale(2, 1, 1) == static_cast<float>(1 / (2 + 1e-6)));
  CHECK(gradient_scale(2, 1, 3) == static_cast<float>(1 / (2 + 1e-6) / 3));
}

// The reduced gradients of one bucket, all owned by this rank.
struct Reduced {
  std::vector<float> values;
  void wait(int) const {}
  std::span<const float> sum(int, Range range) const {
    return std::span(values).subspan(to_size(range.begin), to_size(range.size()));
  }
};

TEST_CASE("gaps between units do not enter the norm, and a place is an offset in the trainable space") {
  Layout layout;
  layout.add_unit("a");
  layout.add_tensor("w", {10});
  layout.add_unit("b");
  layout.add_tensor("w", {10});
  const Sharding sharding(layout, 1, 1000);
  Host host;
  Reduced reduced{std::vector<float>(static_cast<std::size_t>(sharding.range(0, 0).size()), 3.0f)};
  SquareSum sum;
  OwnedParts(sharding, 0).add_squares(host, reduced, &sum);
  CHECK(sum.squares.value() == 180);
  CHECK(sum.first_non_finite == SquareSum::none);
  reduced.values[64 + 5] = std::numeric_limits<float>::infinity();
  OwnedParts(sharding, 0).add_squares(host, reduced, &sum);
  CHECK(sum.first_non_finite == 69);
}

}  // namespace
}  // namespace tessera::engine
