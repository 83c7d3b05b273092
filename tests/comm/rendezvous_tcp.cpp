#include <doctest/doctest.h>

#include <sys/wait.h>

#include <atomic>
#include <chrono>
#include <functional>
#include <string>
#include <thread>
#include <vector>

#include <tessera/comm/rendezvous_tcp.hpp>

namespace tessera {
namespace {

using rendezvous::Member;
using rendezvous::TcpPlace;

Duration milliseconds(double count) { return Duration::milliseconds(count); }

int free_port() { return Socket::listening(0).port(); }

bool contains(const std::string& text, const std::string& what) { return text.find(what) != std::string::npos; }

// Calls f(r) on a thread each; what each threw.
template <class Error = CommError>
std::vector<std::string> errors_of(int count, const std::function<void(int)>& f) {
  std::vector<std::string> errors(static_cast<std::size_t>(count));
  std::vector<std::thread> threads;
  for (int r = 0; r < count; ++r)
    threads.emplace_back([&, r] {
      try {
        f(r);
      } catch (const Error& error) {
        errors[static_cast<std::size_t>(r)] = error.what();
      }
    });
  for (std::thread& thread : threads) thread.join();
  return errors;
}

std::string exchanged(const TcpPlace& place, const Member& me, const std::string& of_zero) {
  std::string text = me.rank == 0 ? of_zero : std::string(of_zero.size(), '?');
  rendezvous::over_tcp(place, me, std::as_writable_bytes(std::span(text)));
  return text;
}

TEST_CASE("the bytes of rank 0 come to all, in whatever order ranks come, time after time at one place") {
  for (const int last : {0, 1, 3}) {
    const TcpPlace place{"localhost", free_port(), 7};
    std::atomic<bool> right = true;
    const auto errors = errors_of<Error>(4, [&](int r) {
      if (r == last) std::this_thread::sleep_for(std::chrono::milliseconds(40));
      for (const std::string text : {"first", "again", "third"})
        if (exchanged(place, {.rank = r, .world = 4, .timeout = milliseconds(10000)}, text) != text) right = false;
    });
    for (const std::string& error : errors) CHECK(error == "");
    CHECK(right);
  }
}

TEST_CASE("ranks are processes") {
  const TcpPlace place{"127.0.0.1", free_port(), 0};
  std::vector<pid_t> children;
  for (int r = 1; r < 3; ++r) {
    const pid_t child = fork();
    if (child == 0) {
      try {
        _exit(exchanged(place, {.rank = r, .world = 3, .timeout = milliseconds(10000)}, "id") == "id" ? 0 : 1);
      } catch (...) {
        _exit(2);
      }
    }
    children.push_back(child);
  }
  CHECK(exchanged(place, {.rank = 0, .world = 3, .timeout = milliseconds(10000)}, "id") == "id");
  for (const pid_t child : children) {
    int status = -1;
    waitpid(child, &status, 0);
    CHECK(status == 0);
  }
}

TEST_CASE("no rank returns before all have come") {
  const TcpPlace place{"localhost", free_port(), 0};
  std::atomic<bool> last_came = false, early = false;
  errors_of<Error>(3, [&](int r) {
    if (r == 2) std::this_thread::sleep_for(std::chrono::milliseconds(60)), last_came = true;
    exchanged(place, {.rank = r, .world = 3, .timeout = milliseconds(10000)}, "id");
    if (!last_came) early = true;
  });
  CHECK_FALSE(early);
}

TEST_CASE("who does not come in time is named, to all that have come") {
  const TcpPlace place{"localhost", free_port(), 0};
  const auto errors = errors_of(5, [&](int r) {
    if (r == 1 || r == 4) return;
    exchanged(place, {.rank = r, .world = 5, .timeout = milliseconds(r == 0 ? 150 : 10000)}, "id");
  });
  for (const int r : {0, 2, 3})
    CHECK(contains(errors[static_cast<std::size_t>(r)],
                   "ranks 1 and 4 have not come to rank 0 at " + place.text() + " within 0.15 s"));
}

TEST_CASE("without a rank 0 the others say where they looked for it") {
  const TcpPlace place{"localhost", free_port(), 0};
  CHECK_THROWS_WITH_AS(
      exchanged(place, {.rank = 2, .world = 3, .timeout = milliseconds(60)}, "id"),
      ("rank 2 of 3 found no rank 0 at " + place.text() + " within 0.06 s: Connection refused").c_str(), CommError);
}

TEST_CASE("two processes of one rank, worlds that differ and bytes that differ are told to all") {
  struct Mistake {
    int rank, world;
    std::string text, message;
  };
  for (const Mistake& odd : {Mistake{1, 3, "id", "two processes say that they are rank 1 of 3"},
                             Mistake{2, 4, "id", "rank 0 was started as one of 3, rank 2 as one of 4"},
                             Mistake{2, 3, "longer", "rank 0 has 2 bytes for all, rank 2 expects 6"}}) {
    const TcpPlace place{"localhost", free_port(), 0};
    const auto errors = errors_of<Error>(3, [&](int r) {  // rank 1 may come after the end
      exchanged(
          place,
          {.rank = r < 2 ? r : odd.rank, .world = r < 2 ? 3 : odd.world, .timeout = milliseconds(r == 1 ? 200 : 10000)},
          r < 2 ? "id" : odd.text);
    });
    CHECK(errors[0] == errors[2]);
    CHECK(contains(errors[0], odd.message));
  }
}

TEST_CASE("a rank that came and left is forgotten: its successor is no second one") {
  const TcpPlace place{"localhost", free_port(), 0};
  std::atomic<bool> left = false, both = false;
  const auto errors = errors_of<Error>(3, [&](int r) {
    if (r == 1) {
      std::string why;
      Socket gone;
      while (!gone) gone = Socket::connected(place.host, place.port, Moment::now() + milliseconds(1000), why);
      const rendezvous::tcp::Hello hello{.rank = 1, .world = 3, .bytes = 2};
      gone.send(std::as_bytes(std::span(&hello, 1)), Moment::now() + milliseconds(1000));
      gone = Socket();
      left = true;
    }
    if (r == 2) {  // until then nobody is complete
      while (!left) std::this_thread::yield();
      std::this_thread::sleep_for(std::chrono::milliseconds(100));
    }
    if (exchanged(place, {.rank = r, .world = 3, .timeout = milliseconds(10000)}, "id") == "id" && r == 2) both = true;
  });
  CHECK(errors[0] + errors[1] + errors[2] == "");
  CHECK(both);
}

TEST_CASE("strangers and other jobs are sent away, and who finds another job at the place says so") {
  const TcpPlace place{"localhost", free_port(), 1};
  const auto errors = errors_of<CommError>(4, [&](int r) {
    std::string why;
    if (r == 2) {
      exchanged({place.host, place.port, 2}, {.rank = 1, .world = 2, .timeout = milliseconds(150)}, "id");
    } else if (r == 3) {
      Socket http;
      while (!http) http = Socket::connected(place.host, place.port, Moment::now() + milliseconds(1000), why);
      const std::string text = "GET / HTTP/1.1\r\nHost: a host with a long name\r\n\r\n";
      http.send(std::as_bytes(std::span(text)), Moment::now() + milliseconds(1000));
      std::byte end;
      CHECK_FALSE(http.receive({&end, 1}, Moment::now() + milliseconds(5000)));
    } else {
      if (r == 1) std::this_thread::sleep_for(std::chrono::milliseconds(200));
      CHECK(exchanged(place, {.rank = r, .world = 2, .timeout = milliseconds(10000)}, "id") == "id");
    }
  });
  CHECK(errors[0] + errors[1] == "");
  CHECK(contains(errors[2], "it does not answer, or it is another program or another job"));
}

TEST_CASE("a port that is taken is rank 0's error, and a place that cannot be is refused") {
  const Socket taken = Socket::listening(0);
  CHECK_THROWS_WITH_AS(exchanged({"localhost", taken.port(), 0}, {.rank = 0, .world = 2}, "id"),
                       doctest::Contains("Address already in use: choose another port"), CommError);
  CHECK_THROWS_AS(exchanged({"localhost", 70000, 0}, {.rank = 0, .world = 2}, "id"), OptionError);
}

TEST_CASE("a world of one rank needs no network") {
  CHECK(exchanged({"no such host", 1, 0}, {.rank = 0, .world = 1}, "id") == "id");
}

}  // namespace
}  // namespace tessera
