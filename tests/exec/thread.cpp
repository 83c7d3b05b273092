#include <doctest/doctest.h>

#include <limits>
#include <utility>

#include <tessera/exec/thread.hpp>

namespace tessera {
namespace {

TEST_CASE("a lock keeps other threads out, but for what lies between unlock and lock") {
  Mutex mutex;
  long count = 0;
  const auto work = [&] {
    for (int i = 0; i < 10000; ++i) {
      Lock lock(mutex);
      ++count;
      lock.unlock();
      lock.lock();
      ++count;
    }
  };
  { Thread first(work), second(work); }  // joins
  CHECK(count == 40000);
}

TEST_CASE("a condition wakes who waits") {
  Mutex mutex;
  Condition turned;
  int turn = 0;
  const auto take_turns = [&](int mine) {
    Lock lock(mutex);
    for (int i = 0; i < 100; ++i) {
      while (turn % 2 != mine) turned.wait(lock);
      ++turn;
      turned.notify_all();
    }
  };
  Thread other([&] { take_turns(1); });
  take_turns(0);
  other.join();
  CHECK(turn == 200);
}

TEST_CASE("a wait until a moment ends when it has come") {
  Mutex mutex;
  Condition never;
  Lock lock(mutex);
  const Moment until = Moment::now() + Duration::milliseconds(20);
  while (Moment::now() < until) never.wait_until(lock, until);
  CHECK(Moment::now() >= until);
}

TEST_CASE("who sleeps until a moment has it behind him, and a past one at once") {
  const Moment until = Moment::now() + Duration::milliseconds(5);
  sleep_until(until);
  CHECK(Moment::now() >= until);
  sleep_until(until);
  sleep_until(Moment{});
}

TEST_CASE("a moment has no end of time to run over") {
  const Moment last = Moment::now() + Duration::nanoseconds(std::numeric_limits<std::int64_t>::max());
  CHECK(last > Moment::now());
  CHECK((Moment{5} + Duration::nanoseconds(2)) - Moment{3} == Duration::nanoseconds(4));
}

TEST_CASE("a moved thread is joined once, by its last owner") {
  int runs = 0;
  Thread thread([&] { ++runs; });
  Thread moved = std::move(thread);
  thread.join();
  moved.join();
  CHECK(runs == 1);
  moved.join();
}

TEST_CASE("a detached thread is waited for by nobody, and runs to its end") {
  static Mutex mutex;
  static Condition changed;
  static bool go_on = false, over = false;
  Thread([] {
    Lock lock(mutex);
    while (!go_on) changed.wait(lock);
    over = true;
    changed.notify_all();
  }).detach();  // and the owner is gone, while the thread still waits
  Lock lock(mutex);
  CHECK_FALSE(over);
  go_on = true;
  changed.notify_all();
  const Moment enough = Moment::now() + Duration::seconds(60);
  while (!over && Moment::now() < enough) changed.wait_until(lock, enough);
  CHECK(over);
}

}  // namespace
}  // namespace tessera
