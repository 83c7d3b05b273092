#include <doctest/doctest.h>

#include <vector>

#include <tessera/layout/layout.hpp>

namespace tessera {
namespace {

TEST_CASE("the intersection of disjoint ranges is empty") {
  CHECK(layout::intersect({0, 5}, {5, 9}).empty());
  CHECK(layout::intersect({7, 9}, {0, 5}).empty());
  CHECK(layout::intersect({0, 5}, {3, 9}) == Range{3, 5});
  CHECK(layout::intersect({0, 9}, {3, 5}) == Range{3, 5});
}

TEST_CASE("handles can be iterated forward and backward and have an index") {
  std::vector<int> seen;
  for (const Unit u : layout::Handles<Unit>(0, 3, 1)) seen.push_back(u.index);
  for (const Unit u : layout::Handles<Unit>(2, -1, -1)) seen.push_back(u.index);
  CHECK(seen == std::vector<int>{0, 1, 2, 2, 1, 0});
  CHECK(layout::Handles<Unit>(0, 3, 1).size() == 3);
  CHECK(layout::Handles<Unit>(2, -1, -1).size() == 3);
  CHECK(layout::Handles<Unit>(0, 0, 1).size() == 0);
}

}  // namespace
}  // namespace tessera
