#include <doctest/doctest.h>

#include <new>
#include <string>

#include <tessera/core/list.hpp>

namespace tessera {
namespace {

std::string joined(const List<std::string>& list) {
  std::string all;
  for (const std::string& item : list) all += item;
  return all;
}

TEST_CASE("a list grows at the end and keeps its items") {
  List<std::string> list;
  CHECK(list.empty());
  for (int i = 0; i < 20; ++i) list.push_back(std::string(1, static_cast<char>('a' + i)));
  CHECK(list.size() == 20);
  CHECK(joined(list) == "abcdefghijklmnopqrst");
  CHECK(list.back() == "t");
}

TEST_CASE("n items are defaults, also of a type that cannot move") {
  struct Fixed {
    Fixed() = default;
    Fixed(const Fixed&) = delete;
    Fixed& operator=(const Fixed&) = delete;
    int value = 7;
  };
  List<Fixed> list(3);
  CHECK(list.size() == 3);
  CHECK(list[2].value == 7);
  CHECK(List<int>(2)[1] == 0);
}

TEST_CASE("counts and indexes are of any integer type") {
  List<int> list(index_t{3});
  list[index_t{0}] = 1;
  list[std::size_t{1}] = 2;
  list[short{2}] = 3;
  const List<int>& same = list;
  CHECK(same[0] + same[1u] + same[index_t{2}] == 6);
}

#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__) && !defined(__clang__)  // which end the program
TEST_CASE("a negative count is refused") { CHECK_THROWS_AS(List<int>(-1), std::bad_alloc); }
#endif

TEST_CASE("growing keeps items that are trivially copied, in constant expressions too") {
  const auto sum = [](int n) {
    List<int> list;
    for (int i = 1; i <= n; ++i) list.push_back(i);
    int all = 0;
    for (const int i : list) all += i;
    return all;
  };
  static_assert(sum(100) == 5050);
  CHECK(sum(100) == 5050);
}

TEST_CASE("an item is put in or taken out anywhere") {
  List<std::string> list{"a", "c"};
  list.insert(1, "b");
  list.insert(3, "d");
  list.insert(0, "_");
  CHECK(joined(list) == "_abcd");
  list.erase(0);
  list.erase(3);
  list.erase(1);
  CHECK(joined(list) == "ac");
}

TEST_CASE("a copy is its own, a moved list is empty, and assignment to itself changes nothing") {
  List<std::string> list{"a", "b"};
  List<std::string> copy = list;
  copy[0] = std::string("x");
  CHECK(joined(list) == "ab");
  List<std::string> moved = std::move(copy);
  CHECK(joined(moved) == "xb");
  CHECK(copy.empty());
  const List<std::string>& same = moved;
  moved = same;
  CHECK(joined(moved) == "xb");
}

TEST_CASE("clear keeps the room, so that what is filled again allocates nothing") {
  List<std::string> list{"a", "b", "c"};
  const std::string* const place = list.data();
  list.clear();
  CHECK(list.empty());
  for (const char* item : {"d", "e", "f"}) list.push_back(item);
  CHECK(list.data() == place);
  list.fill("g");
  CHECK(joined(list) == "ggg");
}

constexpr int sum_of_three() {
  List<int> list{1, 2};
  list.push_back(3);
  int sum = 0;
  for (const int item : List<int>(list)) sum += item;
  return sum;
}
static_assert(sum_of_three() == 6);

}  // namespace
}  // namespace tessera
