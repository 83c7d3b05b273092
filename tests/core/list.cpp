#include <doctest/doctest.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <tessera/core/list.hpp>

namespace tessera {
namespace {

template <class Items>
std::vector<std::string> items_of(const Items& items) {
  return {items.begin(), items.end()};
}

// The same changes to a List and to a std::vector must give the same items.
template <class Items>
std::vector<std::string> after_every_change() {
  Items items(2, "a");
  for (int i = 0; i < 9; ++i) items.push_back(std::to_string(i));
  items.insert(items.begin() + 1, "b");
  items.insert(items.end(), "c");
  items.push_back(items[0]);
  items.erase(items.begin() + 3, items.begin() + 5);
  items.erase(items.end() - 1, items.end());
  items.erase(items.begin(), items.begin());
  items.resize(15);
  items.pop_back();
  const Items copy = items;
  items.clear();
  items.resize(3);
  items = copy;
  items.resize(12);
  items.front() += "!";
  items.back() += "?";
  return items_of(items);
}

TEST_CASE("a List has the same items as a std::vector after the same changes") {
  CHECK(after_every_change<core::List<std::string>>() == after_every_change<std::vector<std::string>>());
}

TEST_CASE("a copy has its own array, and moving a List moves its array") {
  core::List<std::string> items{"a", "b"};
  core::List<std::string> copy = items;
  copy[0] += "c";
  CHECK(items_of(items) == std::vector<std::string>{"a", "b"});
  CHECK(!(copy == items));

  const std::string* const first = items.data();
  const core::List<std::string> moved = std::move(items);
  CHECK(moved.data() == first);
  CHECK(moved == core::List<std::string>{"a", "b"});
}

TEST_CASE("an assigned List keeps its memory if that is large enough, and has the items of the other") {
  core::List<std::string> items{"a", "b", "c"};
  const std::string* const first = items.data();
  const core::List<std::string> two{"d", "e"}, four{"f", "g", "h", "i"};
  items = two;
  CHECK(items == two);
  CHECK(items.data() == first);
  items = core::List<std::string>{};
  CHECK(items.empty());
  items = four;
  CHECK(items == four);
  const auto& same = items;
  items = same;
  CHECK(items == four);
}

TEST_CASE("new items are value-initialized, also in memory that held other items") {
  core::List<int> items(3);
  CHECK(items == core::List<int>{0, 0, 0});
  items.fill(7);
  items.resize(1);
  items.resize(4);
  CHECK(items == core::List<int>{7, 0, 0, 0});
}

TEST_CASE("removed items are destroyed at once") {
  const auto shared = std::make_shared<int>(1);
  core::List<std::shared_ptr<int>> items{shared, shared, shared};
  CHECK(shared.use_count() == 4);
  items.erase(items.begin(), items.begin() + 1);
  CHECK(shared.use_count() == 3);
  items.pop_back();
  CHECK(shared.use_count() == 2);
  items.clear();
  CHECK(shared.use_count() == 1);
}

TEST_CASE("a List moves its items when it grows, so they need not be copyable") {
  core::List<std::unique_ptr<int>> items;
  for (int i = 0; i < 20; ++i) items.push_back(std::make_unique<int>(i));
  for (int i = 0; i < 20; ++i) CHECK(*items[static_cast<std::size_t>(i)] == i);
}

constexpr int sum_of_a_hundred() {
  core::List<int> items;
  for (int i = 0; i < 100; ++i) items.push_back(i);
  int sum = 0;
  for (const int item : items) sum += item;
  return sum;
}
static_assert(sum_of_a_hundred() == 4950);

}  // namespace
}  // namespace tessera
