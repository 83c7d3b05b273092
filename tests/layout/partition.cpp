#include <doctest/doctest.h>

#include <vector>

#include <tessera/layout/partition.hpp>

namespace tessera {
namespace {

TEST_CASE("the parts of a range cover it once, in rank order, and are cut at multiples of 64 only") {
  for (int world = 1; world <= 9; ++world)
    for (index_t size = 0; size < 1500; size += (size < 200 ? 1 : 13)) {
      const index_t begin = 128;
      const layout::Partition partition({{begin, begin + size}}, {world, 1});
      index_t next = begin;
      for (int r = 0; r < world; ++r) {
        const Range own = partition.owned(0, r);
        REQUIRE(own.begin == next);
        REQUIRE(own.size() <= partition.part(0));
        if (!own.empty()) REQUIRE((own.begin - begin) % block == 0);
        next = own.end;
      }
      REQUIRE(next == begin + size);
      REQUIRE(partition.part(0) % block == 0);
      REQUIRE(partition.part(0) * world < size + world * block);
    }
}

TEST_CASE("a world larger than the range leaves empty parts") {
  const layout::Partition partition({{0, 65}}, {8, 1});
  CHECK(partition.owned(0, 0) == Range{0, 64});
  CHECK(partition.owned(0, 1) == Range{64, 65});
  for (int r = 2; r < 8; ++r) CHECK(partition.owned(0, r).empty());
}

TEST_CASE("a shard has room for a full part of every range") {
  const layout::Partition partition({{0, 100}, {128, 129}, {192, 192}}, {2, 1});
  CHECK(partition.shard_begin(0) == 0);
  CHECK(partition.shard_begin(1) == 64);
  CHECK(partition.shard_begin(2) == 128);
  CHECK(partition.shard_elements() == 128);
}

TEST_CASE("ranges beyond 2^31 elements can be partitioned") {
  const index_t size = (index_t{1} << 33) + 1;
  const layout::Partition partition({{0, size}}, {7, 1});
  CHECK(partition.owned(0, 6).end == size);
}

TEST_CASE("parts over groups cover a range once in every group, and what a rank owns lies within what it holds") {
  for (const core::Groups groups : {core::Groups{6, 1}, core::Groups{6, 2}, core::Groups{6, 3}, core::Groups{6, 6}})
    for (index_t size = 0; size < 1500; size += (size < 400 ? 7 : 131)) {
      const layout::Partition partition({{128, 128 + size}}, groups);
      for (int group = 0; group < groups.count(); ++group) {
        index_t next = 128;
        for (int l = 0; l < groups.size; ++l) {
          const Range held = partition.held(0, group * groups.size + l, Extent::group);
          REQUIRE(held.begin == next);
          REQUIRE(held.size() <= partition.part(0, Extent::group));
          next = held.end;
        }
        REQUIRE(next == 128 + size);
      }
      std::vector<int> owners(to_size(size));
      for (int r = 0; r < groups.world; ++r) {
        const Range own = partition.owned(0, r), held = partition.held(0, r, Extent::group);
        REQUIRE(held.begin <= own.begin);
        REQUIRE(own.end <= held.end);
        for (index_t i = own.begin; i < own.end; ++i) ++owners[to_size(i - 128)];
      }
      for (const int count : owners) REQUIRE(count == 1);
    }
}

TEST_CASE("a shard over groups has the room of as many parts as there are groups") {
  const layout::Partition partition({{0, 100}, {128, 700}}, {4, 2});
  CHECK(partition.part(0) == 64);
  CHECK(partition.part(0, Extent::group) == 128);
  CHECK(partition.part(0, Extent::replicated) == 100);
  CHECK(partition.shard_begin(1, Extent::group) == 128);
  CHECK(partition.shard_elements(Extent::group) == 2 * partition.shard_elements());
  CHECK(partition.held(0, 1, Extent::group).empty());
  CHECK(partition.held(0, 3, Extent::replicated) == Range{0, 100});
}

}  // namespace
}  // namespace tessera
