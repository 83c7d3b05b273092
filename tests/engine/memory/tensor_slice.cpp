#include <doctest/doctest.h>

#include <map>
#include <string>
#include <type_traits>
#include <vector>

#include <tessera/engine/memory/tensor_slice.hpp>

namespace tessera::engine {
namespace {

Layout model() {
  Layout layout;
  layout.add_unit("a");
  layout.add_tensor("w", {100});
  layout.add_tensor("fixed", {70}, {.frozen = true});
  layout.add_tensor("b", {90});
  layout.add_unit("c");
  layout.add_tensor("empty", {0});
  layout.add_tensor("w", {300});
  return layout;
}

// How often each element of each tensor is visited, over all ranks. Each element's value is its place.
template <Placement where>
std::map<std::string, std::vector<int>> visits(int world, bool frozen, bool owned_only) {
  const Sharding sharding(model(), world, 1);
  const int space = frozen ? sharding.layout().frozen_space() : 0;
  std::map<std::string, std::vector<int>> found;
  for (int rank = 0; rank < world; ++rank) {
    std::vector<index_t> memory(1000);
    const FlatArray<index_t, where> array(sharding, {space, space + 1}, rank, memory.data());
    for (int b = 0; b < sharding.buckets(); ++b) {
      const int p = sharding.piece(b, space);
      for (index_t i = array.held(p).begin; i < array.held(p).end; ++i) *array.at(p, i) = i;
    }
    const auto visit = [&](const TensorSlice<const index_t>& slice) {
      CHECK(std::string(slice.array) == "array");
      CHECK(!slice.elements.empty());
      auto& counts = found[sharding.layout().name(slice.tensor)];
      counts.resize(static_cast<std::size_t>(sharding.layout().elements(slice.tensor)));
      index_t i = slice.first;
      for (const index_t place : slice.elements) {
        CHECK(place == sharding.layout().place(slice.tensor).begin + i);
        ++counts[static_cast<std::size_t>(i++)];
      }
    };
    for_each_slice<false>(sharding, owned_only, "array", array, visit);
  }
  return found;
}

std::map<std::string, std::vector<int>> trainable(int times) {
  return {{"a.w", std::vector<int>(100, times)},
          {"a.b", std::vector<int>(90, times)},
          {"c.w", std::vector<int>(300, times)}};
}

TEST_CASE("owned slices cover each element of each tensor once over all ranks, for every placement") {
  for (const int world : {1, 2, 3, 5}) {
    CHECK(visits<placement::replicated>(world, false, true) == trainable(1));
    CHECK(visits<placement::world>(world, false, true) == trainable(1));
  }
}

TEST_CASE("held slices are everything on every rank for a replicated array, and the owned elements for a sharded one") {
  CHECK(visits<placement::replicated>(3, false, false) == trainable(3));
  CHECK(visits<placement::world>(3, false, false) == trainable(1));
}

TEST_CASE("frozen tensors are visited in the array of their own space") {
  const std::map<std::string, std::vector<int>> frozen{{"a.fixed", std::vector<int>(70, 1)}};
  CHECK(visits<placement::world>(2, true, false) == frozen);
  CHECK(visits<placement::replicated>(2, true, true) == frozen);
}

TEST_CASE("elements are const unless requested as mutable") {
  const Sharding sharding(model(), 1, 1);
  std::vector<int> memory(1000);
  const FlatArray<int, placement::replicated> array(sharding, sharding.trainable(), 0, memory.data());
  const auto read = [](auto slice) { static_assert(std::is_same_v<typename decltype(slice)::Element, const int>); };
  const auto write = [](auto slice) {
    for (int& element : slice.elements) element = 1;
  };
  for_each_slice<false>(sharding, false, "array", array, read);
  for_each_slice<true>(sharding, false, "array", array, write);
  int written = 0;
  for (const int element : memory) written += element;
  CHECK(written == 490);  // without padding
}

}  // namespace
}  // namespace tessera::engine
