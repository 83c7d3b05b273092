#include <doctest/doctest.h>

#include <arpa/inet.h>

#include <atomic>
#include <chrono>
#include <thread>
#include <vector>

#include <tessera/bootstrap/address.hpp>
#include <tessera/core/clock.hpp>

namespace tessera {
namespace {

core::Clock::time_point soon(int milliseconds = 5000) { return core::Clock::now() + std::chrono::milliseconds(milliseconds); }

TEST_CASE("a numeric address is used directly, without a lookup") {
  std::string why;
  const auto never = [](const char*, const char*, const addrinfo* hints, addrinfo** found) {
    CHECK(hints->ai_flags == AI_NUMERICHOST);
    return ::getaddrinfo("127.0.0.1", "4711", hints, found);
  };
  const std::vector<bootstrap::Address> four = bootstrap::addresses_of("127.0.0.1", 4711, soon(), why, never);
  REQUIRE(four.size() == 1);
  CHECK(four[0].text() == "127.0.0.1");
  CHECK(four[0].port() == 4711);
  const std::vector<bootstrap::Address> six = bootstrap::addresses_of("::1", 4712, soon(), why);
  REQUIRE(six.size() == 1);
  CHECK(six[0].text() == "::1");
  CHECK(six[0].port() == 4712);
}

TEST_CASE("addresses are equal if family, number and port are") {
  std::string why;
  const auto of = [&](const char* host, int port) { return bootstrap::addresses_of(host, port, soon(), why)[0]; };
  CHECK(of("127.0.0.1", 1) == of("127.0.0.1", 1));
  CHECK_FALSE(of("127.0.0.1", 1) == of("127.0.0.1", 2));
  CHECK_FALSE(of("127.0.0.1", 1) == of("127.0.0.2", 1));
  CHECK_FALSE(of("127.0.0.1", 1) == of("::1", 1));
  CHECK(of("::1", 1) == of("::1", 1));
  CHECK_FALSE(of("::1", 1) == of("::2", 1));
}

TEST_CASE("a name is looked up, and the error says why it has no address") {
  std::string why;
  CHECK_FALSE(bootstrap::addresses_of("localhost", 1, soon(), why).empty());
  CHECK(why == "");
  CHECK(bootstrap::addresses_of("no such host", 1, soon(), why).empty());
  CHECK(why != "");
}

TEST_CASE("a lookup without an answer ends at the deadline") {
  static std::atomic<bool> go_on, over;
  go_on = over = false;
  std::string why;
  const core::Clock::time_point begin = core::Clock::now();
  const auto hangs = [](const char*, const char*, const addrinfo* hints, addrinfo**) -> int {
    if (hints->ai_flags == AI_NUMERICHOST) return EAI_NONAME;
    while (!go_on) std::this_thread::sleep_for(std::chrono::milliseconds(1));
    over = true;
    return EAI_AGAIN;
  };
  CHECK(bootstrap::addresses_of("name", 1, soon(50), why, hangs).empty());
  CHECK(core::seconds_of(core::Clock::now() - begin) < 5);
  CHECK(why == "the system takes too long to look up the name");
  go_on = true;
  while (!over) std::this_thread::yield();
}

}  // namespace
}  // namespace tessera
