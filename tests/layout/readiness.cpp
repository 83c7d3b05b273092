#include <doctest/doctest.h>

#include <algorithm>
#include <string>
#include <vector>

#include <tessera/layout/readiness.hpp>

namespace tessera {
namespace {

Layout units_of(std::vector<index_t> sizes) {
  Layout layout;
  for (std::size_t u = 0; u < sizes.size(); ++u) {
    layout.add_unit("u" + std::to_string(u));
    layout.add_tensor("w", {sizes[u]});
  }
  return layout;
}

TEST_CASE("buckets become complete from last to first, for every order in which five units become ready") {
  const Sharding sharding(units_of({64, 64, 200, 0, 64}), 2, 128);
  layout::Readiness readiness(sharding);
  std::vector<int> order{0, 1, 2, 3, 4};
  do {
    readiness.begin();
    std::vector<int> departed;
    for (int u : order) {
      CHECK(readiness.mark(Unit{u}));
      for (int b = readiness.depart(); b >= 0; b = readiness.depart()) {
        for (int v = sharding.bucket(b).first_unit; v < sharding.bucket(b).last_unit; ++v)
          CHECK(readiness.ready(Unit{v}));
        departed.push_back(b);
      }
    }
    std::vector<int> expected;
    for (int b = sharding.buckets() - 1; b >= 0; --b) expected.push_back(b);
    CHECK(departed == expected);
    CHECK(readiness.complete());
  } while (std::next_permutation(order.begin(), order.end()));
}

TEST_CASE("a unit can become ready only once") {
  const Sharding sharding(units_of({64, 64}), 2, 128);
  layout::Readiness readiness(sharding);
  CHECK(readiness.mark(Unit{1}));
  CHECK_FALSE(readiness.mark(Unit{1}));
  CHECK(readiness.first_missing() == Unit{0});
  CHECK(readiness.depart() == -1);
  CHECK(readiness.mark(Unit{0}));
  CHECK(readiness.depart() == 0);
}

TEST_CASE("a new pass starts with no unit ready") {
  const Sharding sharding(units_of({64}), 1, 1);
  layout::Readiness readiness(sharding);
  readiness.mark(Unit{0});
  CHECK(readiness.depart() == 0);
  readiness.begin();
  CHECK_FALSE(readiness.complete());
  CHECK(readiness.mark(Unit{0}));
}

TEST_CASE("a new pass starts with no range of a flat layout ready") {
  const Sharding sharding(Layout::flat(200), 1, 128);
  layout::Readiness readiness(sharding);
  for (int pass = 0; pass < 3; ++pass) {
    readiness.begin();
    CHECK(readiness.mark(Range{0, 50}));
    CHECK(readiness.mark(Range{50, 200}));
    CHECK(readiness.depart() == 1);
    CHECK(readiness.depart() == 0);
  }
}

TEST_CASE("a layout without units is complete at once") {
  const Sharding sharding(Layout{}, 2, 1);
  CHECK(layout::Readiness(sharding).complete());
}

TEST_CASE("six ranges of a flat layout complete its buckets in every order") {
  const Sharding sharding(Layout::flat(600), 1, 128);
  REQUIRE(sharding.buckets() == 5);
  std::vector<int> pieces{0, 1, 2, 3, 4, 5};
  do {
    layout::Readiness readiness(sharding);
    int departures = 0;
    for (int piece : pieces) {
      CHECK(readiness.mark(Range{piece * 100, piece * 100 + 100}));
      while (readiness.depart() >= 0) ++departures;
    }
    CHECK(departures == 5);
    CHECK(readiness.complete());
  } while (std::next_permutation(pieces.begin(), pieces.end()));
}

TEST_CASE("a range that overlaps a ready range is refused and changes nothing") {
  const Sharding sharding(Layout::flat(600), 1, 128);
  layout::Readiness readiness(sharding);
  CHECK(readiness.mark(Range{100, 200}));
  CHECK(readiness.mark(Range{300, 400}));
  CHECK_FALSE(readiness.mark(Range{199, 201}));
  CHECK_FALSE(readiness.mark(Range{50, 101}));
  CHECK_FALSE(readiness.mark(Range{0, 600}));
  CHECK_FALSE(readiness.mark(Range{350, 351}));
  CHECK(readiness.mark(Range{200, 300}));
  CHECK(readiness.mark(Range{400, 600}));
  CHECK(readiness.mark(Range{0, 100}));
  int departures = 0;
  while (readiness.depart() >= 0) ++departures;
  CHECK(departures == 5);
}

}  // namespace
}  // namespace tessera
