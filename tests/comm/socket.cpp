#include <doctest/doctest.h>

#include <array>

#include <tessera/comm/socket.hpp>
#include <tessera/core/math.hpp>

namespace tessera {
namespace {

Moment soon(double milliseconds = 5000) { return Moment::now() + Duration::milliseconds(milliseconds); }

TEST_CASE("bytes go from one socket to the other, and the end is noticed") {
  const Socket listening = Socket::listening(0);
  REQUIRE(listening);
  CHECK_FALSE(listening.accepted());
  std::string why;
  Socket mine = Socket::connected("localhost", listening.port(), soon(), why);
  REQUIRE(mine);
  REQUIRE(listening.ready(POLLIN, soon()));
  const Socket theirs = listening.accepted();
  REQUIRE(theirs);

  std::array<std::byte, 3> sent{std::byte{1}, std::byte{2}, std::byte{3}}, got{};
  CHECK(theirs.receive_some(got) == 0);
  CHECK(mine.send(sent, soon()));
  CHECK(theirs.receive(got, soon()));
  CHECK(got == sent);
  CHECK_FALSE(theirs.receive(got, soon(20)));
  mine = Socket();
  CHECK_FALSE(theirs.receive(got, soon()));
  CHECK(theirs.receive_some(got) == -1);
}

TEST_CASE("why there is no connection is said") {
  int port;
  {
    const Socket listening = Socket::listening(0);
    port = listening.port();
    CHECK_FALSE(Socket::listening(port));
    CHECK(errno == EADDRINUSE);
  }
  std::string why;
  CHECK_FALSE(Socket::connected("localhost", port, soon(), why));
  CHECK(why == "Connection refused");
  CHECK_FALSE(Socket::connected("no such host", port, soon(), why));
  CHECK(why != "Connection refused");
}

}  // namespace
}  // namespace tessera
