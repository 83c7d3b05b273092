#include <doctest/doctest.h>

#include <tessera/core/rank_list.hpp>

namespace tessera {
namespace {

TEST_CASE("ranks are listed, or the first ones and the number of others if there are many") {
  CHECK(core::text_of_ranks({}) == "");
  CHECK(core::text_of_ranks({3}) == "rank 3");
  CHECK(core::text_of_ranks({0, 2}) == "ranks 0 and 2");
  CHECK(core::text_of_ranks({0, 2, 5}, 3) == "ranks 0, 2 and 5");
  CHECK(core::text_of_ranks({0, 2, 5}, 2) == "ranks 0, 2 and 1 other");
  CHECK(core::text_of_ranks({0, 2, 5, 6}, 1) == "ranks 0 and 3 others");
}

}  // namespace
}  // namespace tessera
