#include <doctest/doctest.h>

#include <deque>
#include <random>

#include <tessera/core/index_queue.hpp>

namespace tessera {
namespace {

std::deque<int> all(const core::IndexQueue& queue) {
  std::deque<int> found;
  for (int i = queue.front(); i >= 0; i = queue.after(i)) found.push_back(i);
  return found;
}

TEST_CASE("indices come in the order in which they were last appended") {
  core::IndexQueue queue(4);
  CHECK(queue.front() == -1);
  for (const int i : {2, 0, 3}) queue.append(i);
  CHECK(all(queue) == std::deque<int>{2, 0, 3});
  queue.append(2);
  CHECK(all(queue) == std::deque<int>{0, 3, 2});
  queue.remove(3);
  queue.remove(1);
  CHECK(all(queue) == std::deque<int>{0, 2});
  queue.remove(0);
  queue.remove(2);
  CHECK(queue.front() == -1);
}

TEST_CASE("over long runs of calls a queue equals a simple one that searches") {
  std::mt19937 random(1);
  core::IndexQueue queue(7);
  std::deque<int> expected;
  bool same = true;
  for (int call = 0; call < 10'000; ++call) {
    const int i = static_cast<int>(random() % 7);
    std::erase(expected, i);
    if (random() % 3 > 0) {
      queue.append(i);
      expected.push_back(i);
    } else {
      queue.remove(i);
    }
    same &= all(queue) == expected;
  }
  CHECK(same);
}

TEST_CASE("a queue of no indices is empty, and queues are usable in constant expressions") {
  static_assert(core::IndexQueue(0).front() == -1);
  constexpr auto last = [] {
    core::IndexQueue queue(3);
    queue.append(1);
    queue.append(0);
    return queue.after(queue.front());
  };
  static_assert(last() == 0);
}

}  // namespace
}  // namespace tessera
