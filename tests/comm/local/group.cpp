#include <doctest/doctest.h>

#include <atomic>
#include <chrono>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include <tessera/comm/local/group.hpp>
#include <tessera/core/clock.hpp>

namespace tessera::local {
namespace {

const Call sum{Collective::all_reduce, element_type<float>(),           element_type<float>(), {{1, 0}}, 0,
               {"sum", 1, 2},          on_each_piece<all_reduce<float>>};

TEST_CASE("the last rank to join runs a small operation before post() returns, and workers run a large one") {
  for (const index_t inline_bytes : {0, 1000}) {
    Group group(2, inline_bytes);
    group.start();
    auto a = group.open(0), b = group.open(1);
    CHECK(a == b);
    float x = 1, y = 2;
    const auto first = group.post(*a, 0, {sum, {{&x, &x, nullptr, 1}}});
    CHECK_FALSE(group.done(*a, first));
    const auto second = group.post(*b, 1, {sum, {{&y, &y, nullptr, 1}}});
    if (inline_bytes > 0) CHECK(group.done(*a, first));
    group.wait(*a, 0, first, std::chrono::seconds(10));
    group.wait(*b, 1, second, std::chrono::seconds(10));
    CHECK(x == 3);
    CHECK(y == 3);
  }
}

TEST_CASE("calls and waits throw the first failure") {
  Group group(2, 1000);
  group.start();
  auto channel = group.open(0);
  float x = 1;
  const auto ticket = group.post(*channel, 0, {sum, {{&x, &x, nullptr, 1}}});
  group.fail("rank 1 failed: no more", false, 1);
  group.fail("something else", false, 0);
  CHECK_THROWS_WITH_AS(group.wait(*channel, 0, ticket, std::chrono::seconds(10)), "rank 1 failed: no more", CommError);
  CHECK_THROWS_WITH_AS(group.post(*channel, 0, {sum, {{&x, &x, nullptr, 1}}}), "rank 1 failed: no more", CommError);
  CHECK(group.was_told(0));
  CHECK(x == 1);
}

TEST_CASE("if a task fails, the rank that ran it gets its error, and the other ranks an error that names that rank") {
  Group group(2, 1000);
  auto a = group.open(0), b = group.open(1);
  Call fails = sum;
  fails.task = [](const Operation&, int) { throw BufferError("no such memory"); };
  float x = 1, y = 2;
  const auto ticket = group.post(*a, 0, {fails, {{&x, &x, nullptr, 1}}});
  CHECK_THROWS_WITH_AS(group.post(*b, 1, {fails, {{&y, &y, nullptr, 1}}}), "no such memory", BufferError);
  CHECK_THROWS_WITH_AS(group.wait(*a, 0, ticket, std::chrono::seconds(10)), "rank 1 failed: no such memory", CommError);
  CHECK_THROWS_WITH_AS(group.post(*b, 1, {sum, {{&y, &y, nullptr, 1}}}), "rank 1 failed: no such memory", CommError);
  group.drop(*a, 0, false);
  group.drop(*b, 1, false);
  CHECK(group.was_told(0));
  CHECK_FALSE(group.was_told(1));
}

TEST_CASE("a wait that exceeds the timeout names the missing ranks") {
  Group group(3, 1000);
  group.start();
  auto channel = group.open(0);
  group.open(1);
  float x = 1;
  const auto ticket = group.post(*channel, 0, {sum, {{&x, &x, nullptr, 1}}});
  CHECK_THROWS_WITH_AS(
      group.wait(*channel, 0, ticket, std::chrono::milliseconds(20)),
      "ranks 1 and 2 have not called all_reduce of 1 float (sum 1, pass 2) after 20 ms: rank 0 waits in "
      "queue 0 for all_reduce of 1 float (sum 1, pass 2); ranks 1 and 2 have called nothing",
      CommError);
}

// The state of a `slow` call: its tasks wait for `go_on` and count in `done`.
struct Movement {
  std::atomic<bool> go_on = false;
  std::atomic<int> done = 0;
};

// A call whose tasks wait until movement.go_on. Needs a group without inline bytes, so that workers run the tasks.
Call slow(Movement& movement) {
  Call call = sum;
  call.context = &movement;
  call.task = [](const Operation& mine, int) {
    Movement& of_mine = *static_cast<Movement*>(mine.call.context);
    while (!of_mine.go_on) std::this_thread::yield();
    ++of_mine.done;
  };
  return call;
}

TEST_CASE("a timeout does not end a collective that all ranks have joined and whose tasks still run") {
  Movement movement;
  Group group(2, 0);
  group.start();
  auto a = group.open(0), b = group.open(1);
  float x = 1, y = 2;
  const auto ticket = group.post(*a, 0, {slow(movement), {{&x, &x, nullptr, 1}}});
  group.post(*b, 1, {slow(movement), {{&y, &y, nullptr, 1}}});
  std::thread later([&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
    movement.go_on = true;
  });
  CHECK_NOTHROW(group.wait(*a, 0, ticket, std::chrono::milliseconds(1)));
  CHECK(movement.done == 2);
  movement.go_on = true;
  later.join();
}

// Rank 0 has joined a collective whose tasks run, and another one, which `fail` makes impossible. Then it calls or
// waits.
template <class Fail>
void check_failing_rank_waits(Fail fail) {
  for (const bool calls : {false, true}) {
    Movement movement;
    Group group(2, 0);
    group.start();
    auto a = group.open(0), b = group.open(1);
    float x = 1, y = 2;
    group.post(*a, 0, {slow(movement), {{&x, &x, nullptr, 1}}});
    group.post(*b, 1, {slow(movement), {{&y, &y, nullptr, 1}}});
    const auto lost = group.post(*a, 0, {sum, {{&x, &x, nullptr, 1}}});
    std::thread later([&] {
      std::this_thread::sleep_for(std::chrono::milliseconds(50));
      movement.go_on = true;
    });
    fail(group, *b);
    CHECK_THROWS_AS(calls ? static_cast<void>(group.post(*a, 0, {sum, {{&x, &x, nullptr, 1}}}))
                          : group.wait(*a, 0, lost, std::chrono::seconds(10)),
                    RankError);
    CHECK(movement.done == 2);  // no task accesses x any more
    later.join();
  }
}

TEST_CASE("a rank whose group has failed gets the error after all tasks that access its memory have ended") {
  check_failing_rank_waits([](Group& group, Channel&) { group.fail("rank 1 failed: no more", false, 1); });
  check_failing_rank_waits([](Group& group, Channel&) { group.fail("ranks differ", true, 1); });
}

TEST_CASE("a rank that waits for a dropped collective gets the error after all tasks on its memory have ended") {
  Movement movement;
  Group group(2, 0);
  group.start();
  auto a = group.open(0), b = group.open(1);
  float x = 1, y = 2;
  group.post(*a, 0, {slow(movement), {{&x, &x, nullptr, 1}}});
  group.post(*b, 1, {slow(movement), {{&y, &y, nullptr, 1}}});
  const auto lost = group.post(*a, 0, {sum, {{&x, &x, nullptr, 1}}});
  std::thread drops([&] {
    group.drop(*b, 1, false);
    CHECK(movement.done == 2);
  });
  std::thread later([&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
    movement.go_on = true;
  });
  CHECK_THROWS_WITH_AS(group.wait(*a, 0, lost, std::chrono::seconds(10)), doctest::Contains("rank 1 dropped pass 2"),
                       CommError);
  CHECK(movement.done == 2);
  drops.join();
  later.join();
}

TEST_CASE("ranks that wait for calls that only a running rank could make get an error when that rank returns") {
  Group group(3, 1000);
  std::vector<std::shared_ptr<Channel>> first, second;
  for (int r = 0; r < 3; ++r) first.push_back(group.open(r));
  for (int r = 0; r < 3; ++r) second.push_back(group.open(r));
  float x = 1;
  const auto wait = [&](int rank, Channel& channel) {
    CHECK_THROWS_WITH_AS(
        group.wait(channel, rank, group.post(channel, rank, {sum, {{&x, &x, nullptr, 1}}}), std::chrono::seconds(30)),
        doctest::Contains("no rank can go on"), AgreementError);
  };
  group.post(*first[2], 2, {sum, {{&x, &x, nullptr, 1}}});
  group.post(*second[2], 2, {sum, {{&x, &x, nullptr, 1}}});
  std::thread zero([&] { wait(0, *first[0]); });
  std::thread one([&] { wait(1, *second[1]); });
  std::this_thread::sleep_for(std::chrono::milliseconds(20));
  group.returned(2);
  zero.join();
  one.join();
}

TEST_CASE("no deadlock is reported while another thread of a waiting rank may still call") {
  Group group(2, 1000);
  std::vector<std::shared_ptr<Channel>> channels;  // rank 0 waits in the first, rank 1 in the second
  for (int c = 0; c < 3; ++c) {
    channels.push_back(group.open(0));
    group.open(1);
  }
  float memory[2][3] = {};
  const auto at = [&](int c) -> Channel& { return *channels[static_cast<std::size_t>(c)]; };
  const auto post = [&](int rank, int c) {
    return group.post(at(c), rank, {sum, {{&memory[rank][c], &memory[rank][c]}}});
  };
  const auto run = [&](int rank) {
    std::atomic<bool> called = false;
    std::thread helper([&] {
      post(rank, 2);
      called = true;
      std::this_thread::sleep_for(std::chrono::milliseconds(50));
      CHECK_NOTHROW(post(rank, 1 - rank));
    });
    while (!called) std::this_thread::yield();
    CHECK_NOTHROW(group.wait(at(rank), rank, post(rank, rank), std::chrono::seconds(30)));
    helper.join();
  };
  std::thread one([&] { run(1); });
  run(0);
  one.join();
}

}  // namespace
}  // namespace tessera::local
