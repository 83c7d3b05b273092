#include <doctest/doctest.h>

#include <string>

#include <tessera/layout/sharding.hpp>

namespace tessera {
namespace {

Layout sample() {
  Layout layout;
  layout.add_unit("a");
  layout.add_tensor("w", {30});
  layout.add_tensor("v", {30}, {.group = 1});
  layout.add_tensor("u", {10}, {.group = 1});
  layout.add_tensor("frozen", {5}, {.frozen = true});
  layout.add_unit("b");
  layout.add_tensor("w", {64}, {.group = 1});
  return layout;
}

TEST_CASE("segments follow the hyperparameter groups and exclude padding and frozen tensors") {
  const Sharding sharding(sample(), 1, 1000);
  REQUIRE(sharding.buckets() == 1);
  const auto segments = sharding.segments(0, 0, {0, 192});
  REQUIRE(segments.size() == 3);
  CHECK(segments[0].place == Range{0, 30});
  CHECK(segments[0].group == 0);
  CHECK(segments[1].place == Range{30, 70});
  CHECK(segments[1].group == 1);
  CHECK(segments[2].place == Range{128, 192});
}

TEST_CASE("segments of a part are cut at the part's boundaries") {
  const Sharding sharding(sample(), 3, 1000);
  const auto segments = sharding.segments(0, 0, sharding.partition().owned(0, 1));
  REQUIRE(segments.size() == 1);
  CHECK(segments[0].place == Range{64, 70});
}

TEST_CASE("a part within a unit begins at a block of the unit") {
  const Sharding sharding(sample(), 3, 1000);
  for (int r = 0; r < 3; ++r)
    for (const Range range : sharding.within_units(0, 0, sharding.partition().owned(0, r)))
      CHECK(range.begin % block == 0);
}

TEST_CASE("a run is given with the index of its first element in its tensor") {
  const Sharding sharding(sample(), 1, 1000);
  std::string runs;
  const auto visit = [&](Tensor t, index_t element, Range run) {
    runs += sharding.layout().name(t) + "[" + std::to_string(element) + "] " + std::to_string(run.begin) + ".." +
            std::to_string(run.end) + "  ";
  };
  sharding.for_each_run(0, 0, {10, 150}, visit);
  CHECK(runs == "a.w[10] 10..30  a.v[0] 30..60  a.u[0] 60..70  b.w[0] 128..150  ");
  runs.clear();
  sharding.for_each_run(0, 0, {40, 65}, visit);
  CHECK(runs == "a.v[10] 40..60  a.u[0] 60..65  ");
  runs.clear();
  sharding.for_each_run(0, 1, {194, 256}, visit);
  CHECK(runs == "a.frozen[2] 194..197  ");
}

TEST_CASE("a gathered bucket has its pieces at whole blocks, and a rank's part of a bucket has those of all rules") {
  Layout layout;
  layout.add_unit("a");
  layout.add_tensor("w", {30});
  layout.add_tensor("v", {70}, {.rule = 1});
  layout.add_tensor("frozen", {5}, {.frozen = true});
  layout.add_unit("b");
  layout.add_tensor("w", {100});
  const Sharding sharding(layout, 2, 1);
  CHECK(sharding.begin_in_bucket(0, 0) == 0);
  CHECK(sharding.begin_in_bucket(0, 1) == 64);
  CHECK(sharding.begin_in_bucket(0, 2) == 64 + 128);
  CHECK(sharding.longest_bucket(sharding.all_spaces()) == 64 + 128 + 5);
  CHECK(sharding.longest_part() == 64 + 64);
}

TEST_CASE("every unit has a bucket, and an unknown unit is refused") {
  const Sharding sharding(sample(), 2, 1);
  CHECK(sharding.bucket_of(Unit{0}) == 0);
  CHECK(sharding.bucket_of(Unit{1}) == 1);
  CHECK_THROWS_AS(sharding.bucket_of(Unit{2}), LayoutError);
}

TEST_CASE("the buckets of a range are those with elements in the range") {
  Layout units;
  for (const index_t n : {70, 0, 1, 200, 0, 64, 3}) {
    units.add_unit("u" + std::to_string(units.units()));
    units.add_tensor("w", {n});
  }
  for (const Sharding& sharding : {Sharding(Layout::flat(600), 1, 128), Sharding(units, 2, 1), Sharding(units, 2, 140),
                                   Sharding(Layout::flat(0), 1, 1), Sharding(Layout{}, 1, 1)}) {
    const index_t n = sharding.layout().trainable_elements();
    for (index_t begin = 0; begin <= n; ++begin)
      for (const index_t size : {0, 1, 2, 63, 64, 65, 128, 300, 1000}) {
        const Range range{begin, begin + size};
        std::string found, expected;
        for (const int b : sharding.buckets_of(range))
          if (!sharding.range(b, 0).empty()) found += std::to_string(b);
        for (int b = 0; b < sharding.buckets(); ++b)
          if (!layout::intersect(sharding.range(b, 0), range).empty()) expected += std::to_string(b);
        CHECK(found == expected);
      }
  }
}

}  // namespace
}  // namespace tessera
