#include <doctest/doctest.h>

#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <chrono>
#include <functional>
#include <string>
#include <thread>
#include <vector>

#include <tessera/bootstrap/tcp.hpp>
#include <tessera/core/clock.hpp>

namespace tessera {
namespace {

using rendezvous::Member;
using rendezvous::TcpPlace;

using std::chrono::milliseconds;

int free_port() { return bootstrap::Socket::listening(0).port(); }

bool contains(const std::string& text, const std::string& what) { return text.find(what) != std::string::npos; }

// Calls f(r) on one thread per rank and returns their errors.
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

TEST_CASE("all ranks get the bytes of rank 0, in whatever order they arrive, several times at one place") {
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

TEST_CASE("the rendezvous works between processes") {
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

TEST_CASE("no rank returns before all have arrived") {
  const TcpPlace place{"localhost", free_port(), 0};
  std::atomic<bool> last_came = false, early = false;
  errors_of<Error>(3, [&](int r) {
    if (r == 2) std::this_thread::sleep_for(std::chrono::milliseconds(60)), last_came = true;
    exchanged(place, {.rank = r, .world = 3, .timeout = milliseconds(10000)}, "id");
    if (!last_came) early = true;
  });
  CHECK_FALSE(early);
}

TEST_CASE("ranks that do not arrive before the timeout are named to all that have arrived") {
  const TcpPlace place{"localhost", free_port(), 0};
  const auto errors = errors_of(5, [&](int r) {
    if (r == 1 || r == 4) return;
    exchanged(place, {.rank = r, .world = 5, .timeout = milliseconds(r == 0 ? 150 : 10000)}, "id");
  });
  for (const int r : {0, 2, 3})
    CHECK(contains(errors[static_cast<std::size_t>(r)],
                   "ranks 1 and 4 have not reached rank 0 at " + place.text() + " within 0.15 s"));
}

TEST_CASE("without rank 0 the error of the others names the address") {
  const TcpPlace place{"127.0.0.1", free_port(), 0};
  CHECK_THROWS_WITH_AS(
      exchanged(place, {.rank = 2, .world = 3, .timeout = milliseconds(60)}, "id"),
      ("rank 2 of 3 found no rank 0 at " + place.text() + " within 0.06 s: 127.0.0.1: Connection refused").c_str(),
      CommError);
}

TEST_CASE("two processes of one rank, different world sizes and different byte counts are errors on all ranks") {
  struct Mistake {
    int rank, world;
    std::string text, message;
  };
  for (const Mistake& odd : {Mistake{1, 3, "id", "two processes say that they are rank 1 of 3"},
                             Mistake{2, 4, "id", "rank 0 was started as one of 3, rank 2 as one of 4"},
                             Mistake{2, 3, "longer", "rank 0 has 2 bytes for all, rank 2 expects 6"}}) {
    const TcpPlace place{"localhost", free_port(), 0};
    const auto errors = errors_of<Error>(3, [&](int r) {  // rank 1 may arrive after the end
      exchanged(
          place,
          {.rank = r < 2 ? r : odd.rank, .world = r < 2 ? 3 : odd.world, .timeout = milliseconds(r == 1 ? 200 : 10000)},
          r < 2 ? "id" : odd.text);
    });
    CHECK(errors[0] == errors[2]);
    CHECK(contains(errors[0], odd.message));
  }
}

TEST_CASE("a rank that arrived and left is removed, and its successor is no duplicate") {
  const TcpPlace place{"localhost", free_port(), 0};
  std::atomic<bool> left = false, both = false;
  const auto errors = errors_of<Error>(3, [&](int r) {
    if (r == 1) {
      std::string why;
      bootstrap::Socket gone;
      while (!gone) gone = bootstrap::Socket::connected(place.host, place.port, core::Clock::now() + milliseconds(1000), why);
      const rendezvous::tcp::Hello hello{.rank = 1, .world = 3, .bytes = 2};
      gone.send(std::as_bytes(std::span(&hello, 1)), core::Clock::now() + milliseconds(1000));
      gone = bootstrap::Socket();
      left = true;
    }
    if (r == 2) {  // the first to complete the set of ranks
      while (!left) std::this_thread::yield();
      std::this_thread::sleep_for(std::chrono::milliseconds(100));
    }
    if (exchanged(place, {.rank = r, .world = 3, .timeout = milliseconds(10000)}, "id") == "id" && r == 2) both = true;
  });
  CHECK(errors[0] + errors[1] + errors[2] == "");
  CHECK(both);
}

TEST_CASE("other programs and ranks of other jobs are rejected, and a rank that finds another job reports it") {
  const TcpPlace place{"127.0.0.1", free_port(), 1};
  const auto errors = errors_of<CommError>(4, [&](int r) {
    std::string why;
    if (r == 2) {
      exchanged({place.host, place.port, 2}, {.rank = 1, .world = 2, .timeout = milliseconds(150)}, "id");
    } else if (r == 3) {
      bootstrap::Socket http;
      while (!http) http = bootstrap::Socket::connected(place.host, place.port, core::Clock::now() + milliseconds(1000), why);
      const std::string text = "GET / HTTP/1.1\r\nHost: a host with a long name\r\n\r\n";
      http.send(std::as_bytes(std::span(text)), core::Clock::now() + milliseconds(1000));
      std::byte end;
      CHECK_FALSE(http.receive({&end, 1}, core::Clock::now() + milliseconds(5000)));
    } else {
      if (r == 1) std::this_thread::sleep_for(std::chrono::milliseconds(200));
      CHECK(exchanged(place, {.rank = r, .world = 2, .timeout = milliseconds(10000)}, "id") == "id");
    }
  });
  CHECK(errors[0] + errors[1] == "");
  CHECK(contains(errors[2], "the process that listens there is of another job: the world, the port, the user, "
                            "TESSERA_JOB or what"));
}

TEST_CASE("a process of an earlier run is not accepted as a rank of this run, and rank 0 reports it") {
  const std::uint64_t job = 7, earlier = 8;
  const TcpPlace place{"127.0.0.1", free_port(), job};
  const auto errors = errors_of(2, [&](int r) {
    exchanged({place.host, place.port, r == 0 ? job : earlier},
              {.rank = r, .world = 2, .timeout = milliseconds(r == 0 ? 500 : 300)}, "id");
  });
  CHECK(contains(errors[0], "rank 1 has not reached rank 0 at " + place.text() +
                                " within 0.5 s; a rank of another job connected: the world, the port, the user, "
                                "TESSERA_JOB"));
  CHECK(contains(errors[1], "the process that listens there is of another job: the world, the port"));
}

TEST_CASE("a port in use is an error on rank 0, and a port that is not valid is refused") {
  const bootstrap::Socket taken = bootstrap::Socket::listening(0);
  CHECK_THROWS_WITH_AS(exchanged({"localhost", taken.port(), 0}, {.rank = 0, .world = 2}, "id"),
                       doctest::Contains("Address already in use: choose another port"), CommError);
  CHECK_THROWS_AS(exchanged({"localhost", 70000, 0}, {.rank = 0, .world = 2}, "id"), OptionError);
}

TEST_CASE("a port that is in use for a short time is retried") {
  bootstrap::Socket taken = bootstrap::Socket::listening(0);
  const TcpPlace place{"localhost", taken.port(), 0};
  const auto errors = errors_of<Error>(3, [&](int r) {
    if (r == 2) {
      std::this_thread::sleep_for(std::chrono::milliseconds(150));
      taken = bootstrap::Socket();
    } else {
      CHECK(exchanged(place, {.rank = r, .world = 2, .timeout = milliseconds(10000)}, "id") == "id");
    }
  });
  CHECK(errors[0] + errors[1] == "");
}

TEST_CASE("ranks that arrived at different times and left are named in the error") {
  const TcpPlace place{"localhost", free_port(), 0};
  const auto errors = errors_of(3, [&](int r) {  // rank 1 leaves before rank 2 arrives, and rank 2 before the timeout
    if (r == 2) std::this_thread::sleep_for(std::chrono::milliseconds(600));
    exchanged(place, {.rank = r, .world = 3, .timeout = milliseconds(r == 0 ? 1500 : 300)}, "id");
  });
  CHECK(contains(errors[0], "ranks 1 and 2 have reached rank 0 at " + place.text() + " and left again"));
}

TEST_CASE("a rank that gets its own hello back does not accept it as an answer") {
  const bootstrap::Socket listening = bootstrap::Socket::listening(0);
  std::atomic<bool> over = false;
  std::atomic<int> echoes = 0;
  std::thread echo([&] {
    while (!over) {
      if (!listening.ready(POLLIN, core::Clock::now() + milliseconds(20))) continue;
      const bootstrap::Socket guest = listening.accepted();
      std::array<std::byte, sizeof(rendezvous::tcp::Hello)> said{};
      const core::Clock::time_point soon = core::Clock::now() + milliseconds(1000);
      if (guest.receive(said, soon) && guest.send(said, soon)) ++echoes;
    }
  });
  // The job's bytes equal those of a valid answer with 2 bytes.
  const TcpPlace place{"127.0.0.1", listening.port(), std::uint64_t{2} << 32};
  CHECK_THROWS_WITH_AS(exchanged(place, {.rank = 1, .world = 2, .timeout = milliseconds(200)}, "id"),
                       doctest::Contains("the process that listens there does not answer, or is another program"),
                       CommError);
  over = true;
  echo.join();
  CHECK(echoes > 0);
}

TEST_CASE("a connection that never sends its rank is closed after some seconds") {
  const TcpPlace place{"localhost", free_port(), 0};
  const auto errors = errors_of<Error>(4, [&](int r) {
    if (r < 2) {
      if (r == 1) std::this_thread::sleep_for(std::chrono::milliseconds(4500));
      CHECK(exchanged(place, {.rank = r, .world = 2, .timeout = milliseconds(60000)}, "id") == "id");
      return;
    }
    std::string why;
    bootstrap::Socket silent;
    while (!silent) silent = bootstrap::Socket::connected(place.host, place.port, core::Clock::now() + milliseconds(1000), why);
    const core::Clock::time_point begin = core::Clock::now();
    std::byte word{'t'};
    if (r == 3) silent.send({&word, 1}, begin + milliseconds(1000));  // an incomplete hello
    CHECK_FALSE(silent.receive({&word, 1}, begin + milliseconds(60000)));
    CHECK(core::seconds_of(core::Clock::now() - begin) > 0.9 * core::seconds_of(rendezvous::tcp::introduction));
    CHECK(core::seconds_of(core::Clock::now() - begin) < 30);
  });
  for (const std::string& error : errors) CHECK(error == "");
}

// Rank 0 of `world` in a process with the soft limit `soft` and hard limit `hard` of open files. Returns its error.
class SmallHost {
 public:
  SmallHost(const TcpPlace& place, int world, rlim_t soft, rlim_t hard) {
    REQUIRE(pipe(ends_.data()) == 0);
    child_ = fork();
    if (child_ != 0) return;
    const rlimit limit{soft, hard};
    std::string error;
    try {
      if (setrlimit(RLIMIT_NOFILE, &limit) != 0) error = "no limit";
      exchanged(place, {.rank = 0, .world = world, .timeout = milliseconds(60000)}, "id");
    } catch (const CommError& caught) {
      error = caught.what();
    }
    rlimit after{};
    getrlimit(RLIMIT_NOFILE, &after);
    if (after.rlim_cur != soft) error += "the limit was not put back";
    _exit(write(ends_[1], error.data(), error.size()) == static_cast<ssize_t>(error.size()) ? 0 : 1);
  }
  std::string error() {
    std::array<char, 1024> text{};
    int status = -1;
    waitpid(child_, &status, 0);
    CHECK(status == 0);
    close(ends_[1]);
    const ssize_t size = read(ends_[0], text.data(), text.size());
    close(ends_[0]);
    return {text.data(), static_cast<std::size_t>(size < 0 ? 0 : size)};
  }

 private:
  std::array<int, 2> ends_{};
  pid_t child_ = 0;
};

TEST_CASE("rank 0 raises its limit of open files if there are more ranks, or reports that the hard limit is too low") {
  for (const bool enough : {true, false}) {
    const TcpPlace place{"127.0.0.1", free_port(), 0};
    SmallHost host(place, 100, 64, enough ? 256 : 64);
    const core::Clock::time_point begin = core::Clock::now();
    const auto errors = errors_of(99, [&](int r) {
      exchanged(place, {.rank = r + 1, .world = 100, .timeout = milliseconds(enough ? 60000 : 6000)}, "id");
    });
    const std::string error = host.error();
    CHECK(core::seconds_of(core::Clock::now() - begin) < 50);
    if (enough) {
      CHECK(error == "");
      for (const std::string& each : errors) CHECK(each == "");
    } else {
      CHECK(contains(error, "rank 0 at " + place.text() + " has "));
      CHECK(contains(error,
                     " of 100 ranks and can accept no more connections: Too many open files (EMFILE, the limit "
                     "is 64): raise the hard limit of open files (ulimit -Hn)"));
      int told = 0;
      for (const std::string& each : errors) told += each == error;
      CHECK(told > 30);  // those that were accepted; the others time out
    }
  }
}

TEST_CASE("a world of one rank needs no network") {
  CHECK(exchanged({"no such host", 1, 0}, {.rank = 0, .world = 1}, "id") == "id");
}

}  // namespace
}  // namespace tessera
