#include <doctest/doctest.h>

#include <array>
#include <chrono>
#include <vector>

#include <tessera/bootstrap/socket.hpp>
#include <tessera/core/clock.hpp>
#include <tessera/core/math.hpp>

namespace tessera {
namespace {

core::Clock::time_point soon(int milliseconds = 5000) { return core::Clock::now() + std::chrono::milliseconds(milliseconds); }

TEST_CASE("bytes are sent from one socket to the other, and a closed connection is noticed") {
  const bootstrap::Socket listening = bootstrap::Socket::listening(0);
  REQUIRE(listening);
  CHECK_FALSE(listening.accepted());
  std::string why;
  bootstrap::Socket mine = bootstrap::Socket::connected("localhost", listening.port(), soon(), why);
  REQUIRE(mine);
  REQUIRE(listening.ready(POLLIN, soon()));
  const bootstrap::Socket theirs = listening.accepted();
  REQUIRE(theirs);

  std::array<std::byte, 3> sent{std::byte{1}, std::byte{2}, std::byte{3}}, got{};
  CHECK(theirs.receive_some(got) == 0);
  CHECK(mine.send(sent, soon()));
  CHECK(theirs.receive(got, soon()));
  CHECK(got == sent);
  CHECK_FALSE(theirs.receive(got, soon(20)));
  mine = bootstrap::Socket();
  CHECK_FALSE(theirs.receive(got, soon()));
  CHECK(theirs.receive_some(got) == -1);
}

TEST_CASE("a failed connection reports the reason") {
  int port;
  {
    const bootstrap::Socket listening = bootstrap::Socket::listening(0);
    port = listening.port();
    CHECK_FALSE(bootstrap::Socket::listening(port));
    CHECK(errno == EADDRINUSE);
  }
  std::string why;
  CHECK_FALSE(bootstrap::Socket::connected("localhost", port, soon(), why));
  CHECK(why.ends_with("127.0.0.1: Connection refused"));  // also for ::1 if the machine has it
  CHECK_FALSE(bootstrap::Socket::connected("no such host", port, soon(), why));
  CHECK(why != "");
  CHECK_FALSE(why.ends_with("Connection refused"));
}

std::vector<bootstrap::Address> both(const bootstrap::Address& first, const bootstrap::Address& second) { return {first, second}; }

TEST_CASE("an address that does not answer takes some seconds, not all the time until the deadline") {
  // A connection beyond the listener's backlog is not refused: nothing answers.
  const bootstrap::Socket silent(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  std::string why;
  const bootstrap::Address any = bootstrap::addresses_of("127.0.0.2", 0, soon(), why)[0];
  REQUIRE(::bind(silent.handle(), any.get(), any.size) == 0);
  REQUIRE(::listen(silent.handle(), 0) == 0);
  std::vector<bootstrap::Address> full;
  full.push_back(silent.here());
  std::vector<bootstrap::Socket> taken;
  for (int i = 0; i < 16; ++i) {
    taken.push_back(bootstrap::Socket::connected(full, soon(100), why));
    if (!taken.back()) break;
  }
  REQUIRE_FALSE(taken.back());
  CHECK(why == "127.0.0.2: Connection timed out");

  const bootstrap::Socket listening = bootstrap::Socket::listening(0);
  const bootstrap::Address good = bootstrap::addresses_of("127.0.0.1", listening.port(), soon(), why)[0];
  const core::Clock::time_point begin = core::Clock::now();
  CHECK(bootstrap::Socket::connected(both(silent.here(), good), soon(60000), why));
  CHECK(core::seconds_of(core::Clock::now() - begin) >= core::seconds_of(bootstrap::Socket::patience) * 0.99);
  CHECK(core::seconds_of(core::Clock::now() - begin) < 40);
}

TEST_CASE("a connection of a socket to itself is refused and frees the port") {
  std::string why;
  const bootstrap::Address any = bootstrap::addresses_of("127.0.0.1", 0, soon(), why)[0];
  int port = 0;
  {
    const bootstrap::Socket alone(::socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
    REQUIRE(::bind(alone.handle(), any.get(), any.size) == 0);
    port = alone.port();
    CHECK(alone.connect(alone.here(), soon()) == ECONNREFUSED);
  }
  CHECK(bootstrap::Socket::listening(port));
}

TEST_CASE(
    "repeated attempts to connect to a port that the system assigns to connections never connect a socket to itself") {
  // Linux assigns ports of one parity to connections, and ports of the other to bind with port 0. Without the
  // comparison of both ends, some hundreds or thousands of attempts would succeed.
  const int bound = bootstrap::Socket::listening(0).port();
  std::string why;
  const core::Clock::time_point enough = soon(20000);
  int itself = 0;
  for (const int port : {bound, bound ^ 1}) {
    const std::vector<bootstrap::Address> there = bootstrap::addresses_of("127.0.0.1", port, enough, why);
    for (int i = 0; i < 20000 && core::Clock::now() < enough; ++i)
      if (const bootstrap::Socket open = bootstrap::Socket::connected(there, enough, why)) itself += open.here() == open.there();
  }
  CHECK(itself == 0);
}

}  // namespace
}  // namespace tessera
