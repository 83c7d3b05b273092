#include <doctest/doctest.h>

#include <vector>

#include <tessera/layout/partition.hpp>

namespace tessera {
namespace {

TEST_CASE("the parts of a range cover it once, in rank order, cut at multiples of 64 only") {
  for (int world = 1; world <= 9; ++world)
    for (index_t size = 0; size < 1500; size += (size < 200 ? 1 : 13)) {
      const index_t begin = 128;
      const layout::Partition partition({{begin, begin + size}}, world);
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
  const layout::Partition partition({{0, 65}}, 8);
  CHECK(partition.owned(0, 0) == Range{0, 64});
  CHECK(partition.owned(0, 1) == Range{64, 65});
  for (int r = 2; r < 8; ++r) CHECK(partition.owned(0, r).empty());
}

TEST_CASE("a shard has room for a full part of every range") {
  const layout::Partition partition({{0, 100}, {128, 129}, {192, 192}}, 2);
  CHECK(partition.shard_begin(0) == 0);
  CHECK(partition.shard_begin(1) == 64);
  CHECK(partition.shard_begin(2) == 128);
  CHECK(partition.shard_elements() == 128);
  CHECK(partition.longest_range() == 100);
  CHECK(partition.longest_part() == 64);
}

TEST_CASE("ranges beyond 2^31 elements are parted") {
  const index_t size = (index_t{1} << 33) + 1;
  const layout::Partition partition({{0, size}}, 7);
  CHECK(partition.owned(0, 6).end == size);
}

}  // namespace
}  // namespace tessera
