#include <doctest/doctest.h>

#include <tessera/layout/micro_batches.hpp>

namespace tessera {
namespace {

TEST_CASE("micro-batches are assigned to the ranks in turn, and only the last pass may be incomplete") {
  constexpr layout::MicroBatches seven{7, 3};
  static_assert(seven.passes() == 3);
  CHECK(seven.before(2) == 6);
  CHECK(seven.in_pass(1) == 3);
  CHECK(seven.in_pass(2) == 1);
  CHECK(seven.has(0, 2));
  CHECK_FALSE(seven.has(1, 2));
  CHECK(seven.has(2, 1));
}

TEST_CASE("fewer micro-batches than ranks take one pass") {
  constexpr layout::MicroBatches two{2, 5};
  CHECK(two.passes() == 1);
  CHECK(two.in_pass(0) == 2);
  CHECK_FALSE(two.has(2, 0));
}

TEST_CASE("every micro-batch has one rank and one pass, for any numbers") {
  for (index_t count = 1; count <= 20; ++count)
    for (int world = 1; world <= 7; ++world) {
      const layout::MicroBatches step{count, world};
      index_t j = 0;
      for (int pass = 0; pass < step.passes(); ++pass) {
        CHECK(step.before(pass) == j);
        for (int rank = 0; rank < world; ++rank) j += step.has(rank, pass);
        CHECK(step.before(pass) + step.in_pass(pass) == j);
      }
      CHECK(j == count);
    }
}

}  // namespace
}  // namespace tessera
