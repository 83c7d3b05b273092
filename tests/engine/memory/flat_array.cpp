#include <doctest/doctest.h>

#include <string>
#include <vector>

#include <tessera/engine/memory/flat_array.hpp>

namespace tessera::engine {
namespace {

// Three buckets, the second of them empty, with a gap before the last: [0, 200), [256, 256), [256, 500).
Sharding divided(int world, int group_size = 1) {
  Layout layout;
  for (const index_t n : {200, 0, 244}) {
    layout.add_unit("u" + std::to_string(layout.units()));
    layout.add_tensor("w", {n});
  }
  return Sharding(layout, world, 1, group_size);
}

TEST_CASE("a replicated array holds every element of the space in order, whatever the rank owns") {
  const Sharding sharding = divided(3);
  const layout::Partition& of = sharding.partition();
  std::vector<int> memory(500);
  for (int rank = 0; rank < 3; ++rank) {
    const FlatArray<int, placement::replicated> array(sharding, sharding.trainable(), rank, memory.data());
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
    const Sharding sharding = divided(world);
    const layout::Partition& of = sharding.partition();
    for (int rank = 0; rank < world; ++rank) {
      std::vector<int> memory(static_cast<std::size_t>(sharding.shard_elements(sharding.trainable())));
      const FlatArray<int, placement::world> array(sharding, sharding.trainable(), rank, memory.data());
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
    const Sharding sharding = divided(6, group_size);
    const layout::Partition& of = sharding.partition();
    for (int rank = 0; rank < 6; ++rank) {
      std::vector<int> memory(static_cast<std::size_t>(sharding.shard_elements(sharding.trainable(), Extent::group)));
      const FlatArray<int, placement::group> array(sharding, sharding.trainable(), rank, memory.data());
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
  const Sharding sharding = divided(world, group_size);
  std::vector<int> owners(500);
  for (int rank = 0; rank < world; ++rank) {
    const FlatArray<int, where> array(sharding, sharding.trainable(), rank, nullptr);
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

// Two units of two rules, and frozen tensors: each array below is over the second rule alone.
Layout two_rules() {
  Layout layout;
  for (const char* name : {"a", "b"}) {
    layout.add_unit(name);
    layout.add_tensor("w", {100});
    layout.add_tensor("v", {130}, {.rule = 1});
    layout.add_tensor("frozen", {10}, {.frozen = true});
  }
  return layout;
}

TEST_CASE("an array over the space of one rule has memory for that space alone") {
  const Sharding sharding(two_rules(), 2, 1);
  const layout::Spaces space = sharding.of_rule(1);
  const int first = sharding.piece(0, 1), second = sharding.piece(1, 1);
  std::vector<int> memory(static_cast<std::size_t>(sharding.layout().space_elements(1)));
  REQUIRE(memory.size() == 192 + 130);
  const FlatArray<int, placement::replicated> whole(sharding, space, 1, memory.data());
  CHECK(whole.held_span(first).data() == memory.data());
  CHECK(whole.held_span(second).data() + 130 == memory.data() + memory.size());
  std::vector<int> shard(static_cast<std::size_t>(sharding.shard_elements(space)));
  REQUIRE(shard.size() == 2 * 128);
  const FlatArray<int, placement::world> sharded(sharding, space, 1, shard.data());
  CHECK(sharded.held_span(first).data() == shard.data());
  CHECK(sharded.held_span(first).size() == 2);
  CHECK(sharded.held_span(second).data() == shard.data() + 128);
}

TEST_CASE("an empty shard has spans without elements") {
  const Sharding sharding = divided(7);
  std::vector<int> memory(static_cast<std::size_t>(sharding.shard_elements(sharding.trainable())));
  const FlatArray<int, placement::world> array(sharding, sharding.trainable(), 6, memory.data());
  for (int b = 0; b < 3; ++b) CHECK(array.held_span(b).empty());
}

}  // namespace
}  // namespace tessera::engine
