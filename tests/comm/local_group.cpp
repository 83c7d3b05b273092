#include <doctest/doctest.h>

#include <string>
#include <thread>
#include <vector>

#include <tessera/comm/local_group.hpp>

namespace tessera::local {
namespace {

const Call sum{
    Collective::all_reduce, element_type<float>(), element_type<float>(), 1, 0, 0, {"sum", 1, 2}, all_reduce<float>};

TEST_CASE("the last rank to come does a small operation on the spot, and workers do a large one") {
  for (const index_t inline_bytes : {0, 1000}) {
    Group group(2, inline_bytes);
    group.start();
    auto a = group.open(0), b = group.open(1);
    CHECK(a == b);
    float x = 1, y = 2;
    const auto first = group.post(*a, 0, sum, {&x, &x});
    CHECK_FALSE(group.done(*a, first));
    const auto second = group.post(*b, 1, sum, {&y, &y});
    if (inline_bytes > 0) CHECK(group.done(*a, first));
    group.wait(*a, 0, first, Duration::seconds(10));
    group.wait(*b, 1, second, Duration::seconds(10));
    CHECK(x == 3);
    CHECK(y == 3);
  }
}

TEST_CASE("the first failure stays, and reaches calls and waits") {
  Group group(2, 1000);
  group.start();
  auto channel = group.open(0);
  float x = 1;
  const auto ticket = group.post(*channel, 0, sum, {&x, &x});
  group.fail("rank 1 failed: no more", false, 1);
  group.fail("something else", false, 0);
  CHECK_THROWS_WITH_AS(group.wait(*channel, 0, ticket, Duration::seconds(10)), "rank 1 failed: no more", CommError);
  CHECK_THROWS_WITH_AS(group.post(*channel, 0, sum, {&x, &x}), "rank 1 failed: no more", CommError);
  CHECK(group.was_told(0));
  CHECK(x == 1);
}

TEST_CASE("a portion that fails on the spot ends the group by the name of the rank that ran it, which has the error") {
  Group group(2, 1000);
  auto a = group.open(0), b = group.open(1);
  Call fails = sum;
  fails.portion = [](const Call&, const List<Ends>&, int) { throw BufferError("no such memory"); };
  float x = 1, y = 2;
  const auto ticket = group.post(*a, 0, fails, {&x, &x});
  CHECK_THROWS_WITH_AS(group.post(*b, 1, fails, {&y, &y}), "no such memory", BufferError);
  CHECK_THROWS_WITH_AS(group.wait(*a, 0, ticket, Duration::seconds(10)), "rank 1 failed: no such memory", CommError);
  CHECK_THROWS_WITH_AS(group.post(*b, 1, sum, {&y, &y}), "rank 1 failed: no such memory", CommError);
  group.drop(*a, 0, false);
  group.drop(*b, 1, false);
  CHECK(group.was_told(0));
  CHECK_FALSE(group.was_told(1));
}

TEST_CASE("a wait that lasts too long names who is missing") {
  Group group(3, 1000);
  group.start();
  auto channel = group.open(0);
  group.open(1);
  float x = 1;
  const auto ticket = group.post(*channel, 0, sum, {&x, &x});
  CHECK_THROWS_WITH_AS(group.wait(*channel, 0, ticket, Duration::milliseconds(20)),
                       doctest::Contains("ranks 1 and 2 have not called all_reduce of 1 float (sum 1, pass 2)"),
                       CommError);
}

}  // namespace
}  // namespace tessera::local
