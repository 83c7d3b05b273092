#include <doctest/doctest.h>

#include <string>
#include <vector>

#include <tessera/layout/buckets.hpp>

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

std::vector<int> last_units(const core::List<layout::Bucket>& buckets) {
  std::vector<int> last;
  for (const layout::Bucket& bucket : buckets) last.push_back(bucket.last_unit);
  return last;
}

TEST_CASE("a bucket takes units up to exactly its size and not one element more") {
  CHECK(last_units(layout::make_buckets(units_of({64, 64, 64}), 2, 128)) == std::vector<int>{2, 3});
  CHECK(last_units(layout::make_buckets(units_of({64, 64, 64}), 2, 127)) == std::vector<int>{1, 2, 3});
  CHECK(last_units(layout::make_buckets(units_of({64, 64, 64}), 2, 129)) == std::vector<int>{2, 3});
}

TEST_CASE("a unit larger than the bucket size is a bucket of its own") {
  CHECK(last_units(layout::make_buckets(units_of({10, 1000, 10}), 2, 100)) == std::vector<int>{1, 2, 3});
}

TEST_CASE("a unit without elements is in a bucket with other units") {
  CHECK(last_units(layout::make_buckets(units_of({0, 64, 0, 64, 0}), 2, 64)) == std::vector<int>{3, 5});
}

TEST_CASE("frozen elements count toward a bucket's size") {
  Layout layout;
  for (const char* name : {"a", "b", "c"}) {
    layout.add_unit(name);
    layout.add_tensor("w", {1});
    layout.add_tensor("frozen", {64}, {.frozen = true});
  }
  CHECK(layout::make_buckets(layout, 2, 100).size() == 3);
}

TEST_CASE("buckets cover every unit once and in order, whatever the sizes") {
  for (index_t size : {1, 63, 64, 65, 128, 1000})
    for (index_t bucket = 1; bucket < 3000; bucket += 37) {
      const Layout layout = units_of({size, 0, 3 * size, 1, size, size, 2 * size});
      int next = 0;
      index_t end = 0;
      for (const layout::Bucket& b : layout::make_buckets(layout, 3, bucket)) {
        CHECK(b.first_unit == next);
        CHECK(b.last_unit > b.first_unit);
        CHECK(b.ranges[0].begin >= end);
        CHECK((b.ranges[0].size() <= bucket || b.ranges[0].size() == layout.trainable(Unit{b.first_unit}).size() ||
               b.last_unit - b.first_unit == 1));
        next = b.last_unit;
        end = b.ranges[0].end;
      }
      CHECK(next == layout.units());
    }
}

TEST_CASE("a flat layout is cut evenly at multiples of the world size times 64") {
  const auto buckets = layout::make_buckets(Layout::flat(1000), 3, 400);
  REQUIRE(buckets.size() == 3);
  CHECK(buckets[0].ranges[0] == Range{0, 384});
  CHECK(buckets[1].ranges[0] == Range{384, 768});
  CHECK(buckets[2].ranges[0] == Range{768, 1000});
  CHECK(layout::make_buckets(Layout::flat(1000), 3, 1).size() == 6);
  CHECK(layout::make_buckets(Layout::flat(0), 3, 1).size() == 1);  // of an empty layout: every unit has a bucket
}

}  // namespace
}  // namespace tessera
