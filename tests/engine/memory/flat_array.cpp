#include <doctest/doctest.h>

#include <vector>

#include <tessera/engine/memory/flat_array.hpp>

namespace tessera::engine {
namespace {

// Three buckets, the second of them empty, with a gap before the last.
layout::Partition space(int world, int group_size = 1) {
  return layout::Partition({Range{0, 200}, Range{256, 256}, Range{256, 500}}, {world, group_size});
}

TEST_CASE("a replicated array holds every element of the space in order, whatever the rank owns") {
  const layout::Partition of = space(3);
  std::vector<int> memory(500);
  for (int rank = 0; rank < 3; ++rank) {
    const FlatArray<int, placement::replicated> array(of, rank, memory.data());
    for (int b = 0; b < 3; ++b) {
      CHECK(array.held(b) == of.range(b));
      CHECK(array.owned(b) == of.owned(b, rank));
      for (index_t i = array.held(b).begin; i < array.held(b).end; ++i) CHECK(array.at(b, i) == memory.data() + i);
      CHECK(array.held_span(b).data() == memory.data() + of.range(b).begin);
      CHECK(array.owned_span(b).data() == memory.data() + of.owned(b, rank).begin);
    }
    CHECK(array.span(Range{190, 300}).data() == memory.data() + 190);
    CHECK(array.span(Range{190, 300}).size() == 110);
  }
}

TEST_CASE("a sharded array holds what its rank owns, each element once within the shard's size") {
  for (const int world : {1, 2, 3, 4, 7}) {
    const layout::Partition of = space(world);
    for (int rank = 0; rank < world; ++rank) {
      std::vector<int> memory(static_cast<std::size_t>(of.shard_elements()));
      const FlatArray<int, placement::world> array(of, rank, memory.data());
      for (int b = 0; b < 3; ++b) {
        CHECK(array.held(b) == array.owned(b));
        CHECK(array.owned(b) == of.owned(b, rank));
        for (int& element : array.held_span(b)) ++element;
        for (index_t i = array.held(b).begin; i < array.held(b).end; ++i) {
          CHECK(array.at(b, i) == memory.data() + of.shard_begin(b) + (i - array.held(b).begin));
          CHECK(*array.at(b, i) == 1);
        }
      }
    }
  }
}

TEST_CASE("an array that is sharded over groups holds its group's part, of which its rank owns a piece") {
  for (const int group_size : {1, 2, 3, 6}) {
    const layout::Partition of = space(6, group_size);
    for (int rank = 0; rank < 6; ++rank) {
      std::vector<int> memory(static_cast<std::size_t>(of.shard_elements(Extent::group)));
      const FlatArray<int, placement::group> array(of, rank, memory.data());
      for (int b = 0; b < 3; ++b) {
        CHECK(array.held(b) == of.held(b, rank, Extent::group));
        CHECK(array.owned(b) == of.owned(b, rank));
        for (int& element : array.held_span(b)) ++element;
        for (index_t i = array.held(b).begin; i < array.held(b).end; ++i) CHECK(*array.at(b, i) == 1);
        CHECK(array.owned_span(b).data() == array.at(b, array.owned(b).begin));
      }
    }
  }
}

template <Placement where>
void check_owners(int world, int group_size = 1) {
  const layout::Partition of = space(world, group_size);
  std::vector<int> owners(500);
  for (int rank = 0; rank < world; ++rank) {
    const FlatArray<int, where> array(of, rank, nullptr);
    for (int b = 0; b < 3; ++b)
      for (index_t i = array.owned(b).begin; i < array.owned(b).end; ++i) ++owners[static_cast<std::size_t>(i)];
  }
  for (index_t i = 0; i < 500; ++i) CHECK(owners[static_cast<std::size_t>(i)] == (i < 200 || i >= 256));
}

TEST_CASE("every element has one owner among the ranks, for every placement") {
  for (const int world : {1, 2, 3, 5, 8}) {
    check_owners<placement::replicated>(world);
    check_owners<placement::world>(world);
    check_owners<placement::group>(world, world % 2 == 0 ? 2 : 1);
  }
}

TEST_CASE("an empty shard has spans without elements") {
  const layout::Partition of = space(7);
  std::vector<int> memory(static_cast<std::size_t>(of.shard_elements()));
  const FlatArray<int, placement::world> array(of, 6, memory.data());
  for (int b = 0; b < 3; ++b) CHECK(array.held_span(b).empty());
}

}  // namespace
}  // namespace tessera::engine
