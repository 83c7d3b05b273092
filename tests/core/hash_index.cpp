#include <doctest/doctest.h>

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include <tessera/core/digest.hpp>
#include <tessera/core/hash_index.hpp>

namespace tessera {
namespace {

std::uint64_t hash_of(std::string_view key) { return core::mixed_hash(core::Digest{}.add(key).value()); }

// A list of keys with its index.
struct Keys {
  std::vector<std::string> keys;
  core::HashIndex index;
  index_t comparisons = 0;

  auto same(std::string_view key) {
    return [this, key](int i) { return ++comparisons, keys[to_size(i)] == key; };
  }
  int find(std::string_view key) { return index.find(hash_of(key), same(key)); }
  int find_or_add(const std::string& key) {
    const int found = index.find_or_add(hash_of(key), same(key));
    if (found < 0) keys.push_back(key);
    return found;
  }
};

TEST_CASE("an index finds each item by its key only, and adds items that are missing") {
  Keys keys;
  CHECK(keys.find("a") == -1);
  int count = 0;
  for (const char* key : {"a", "b", "", "ab", "ba", "c", "d", "e", "f"}) {
    CHECK(keys.find(key) == -1);
    CHECK(keys.find_or_add(key) == -1);
    CHECK(keys.find_or_add(key) == count++);
    for (int known = 0; known < count; ++known) CHECK(keys.find(keys.keys[to_size(known)]) == known);
  }
  CHECK(keys.find("x") == -1);
}

TEST_CASE("items with the same hash are distinguished by their keys") {
  core::HashIndex index;
  const auto is = [](int i) { return [i](int other) { return other == i; }; };
  for (int i = 0; i < 100; ++i) CHECK(index.find_or_add(7, is(i)) == -1);
  for (int i = 0; i < 100; ++i) CHECK(index.find(7, is(i)) == i);
  CHECK(index.find(7, is(100)) == -1);
}

TEST_CASE("a copy has its own items") {
  core::HashIndex index;
  const auto none = [](int) { return false; };
  index.find_or_add(1, none);
  core::HashIndex copy = index;
  copy.find_or_add(2, none);
  const auto second = [](int i) { return i == 1; };
  CHECK(copy.find(2, second) == 1);
  CHECK(index.find(2, second) == -1);
}

TEST_CASE("finding an item takes one comparison among a thousand items and among a hundred thousand") {
  const auto comparisons_a_search = [](int n, auto name) {
    Keys keys;
    int wrong = 0;
    for (int i = 0; i < n; ++i) wrong += keys.find_or_add(name(i)) != -1;
    CHECK(keys.comparisons < n / 100);
    for (int i = 0; i < n; ++i) wrong += keys.find(name(i)) != i;
    CHECK(wrong == 0);
    return static_cast<double>(keys.comparisons) / n;
  };
  for (const int n : {1000, 10'000, 100'000}) {
    CHECK(comparisons_a_search(n, [](int i) { return std::to_string(i); }) < 1.01);
    CHECK(comparisons_a_search(n, [](int i) { return "blocks." + std::to_string(i) + ".attention.weight"; }) < 1.01);
    CHECK(comparisons_a_search(n, [](int i) { return std::string(to_size(i % 100), 'x') + std::to_string(i / 100); }) <
          1.01);
  }
}

TEST_CASE("an index is usable in constant expressions") {
  constexpr auto found = [] {
    core::HashIndex index;
    const auto is = [](int i) { return [i](int other) { return other == i; }; };
    for (int i = 0; i < 20; ++i) index.find_or_add(core::mixed_hash(static_cast<std::uint64_t>(i)), is(i));
    return index.find(core::mixed_hash(13), is(13));
  };
  static_assert(found() == 13);
}

// Compilers limit the evaluation of one constant expression (g++: 2^25 operations, clang: 2^20 steps). If a search
// looked at more than a few slots for consecutive numbers, this would exceed the limit.
TEST_CASE("a search looks at few slots, so an index of 3,000 items is a constant expression") {
  constexpr auto wrong = [](std::uint64_t stride) {
    core::HashIndex index;
    int count = 0;
    for (int i = 0; i < 3000; ++i)
      count += index.find_or_add(core::mixed_hash(static_cast<std::uint64_t>(i) * stride),
                                 [i](int other) { return other == i; }) != -1;
    return count;
  };
  static_assert(wrong(1) == 0);
  static_assert(wrong(std::uint64_t{1} << 40) == 0);
}

}  // namespace
}  // namespace tessera
