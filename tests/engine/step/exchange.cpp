#include <doctest/doctest.h>

#include <chrono>
#include <vector>

#include <tessera/comm/local/local.hpp>
#include <tessera/engine/step/exchange.hpp>

namespace tessera::engine {
namespace {

TEST_CASE("every rank gets every rank's word, any number of times") {
  run_ranks(3, [](Local& comm) {
    Host host;
    auto room = host.allocate<std::uint64_t>(5);
    auto queue = comm.queue(std::chrono::seconds(10));
    Exchange exchange(host, queue, room.span(), comm.rank(), 3);
    for (std::uint64_t round = 0; round < 5; ++round) {
      const auto& words =
          exchange.all(10 * round + static_cast<std::uint64_t>(comm.rank()), Tag{"words", 0, static_cast<index_t>(round)});
      CHECK(std::vector<std::uint64_t>(words.begin(), words.end()) ==
            std::vector<std::uint64_t>{10 * round, 10 * round + 1, 10 * round + 2});
    }
    CHECK(room.span()[3] == 0);
  });
}

TEST_CASE("every rank gets as many words as each rank has, without memory that is counted as the optimizer's") {
  run_ranks(3, [](Local& comm) {
    Host host;
    auto queue = comm.queue(std::chrono::seconds(10));
    const auto rank = static_cast<std::uint64_t>(comm.rank());
    const std::vector<std::uint64_t> mine{rank, 100 + rank};
    const auto words = gather_words(host, queue, comm.rank(), 3, mine, Tag{"words", 0, 0});
    CHECK(std::vector<std::uint64_t>(words.begin(), words.end()) ==
          std::vector<std::uint64_t>{0, 100, 1, 101, 2, 102});
    CHECK(host.peak_bytes() == 0);
  });
}

TEST_CASE("the first rank that differs from rank 0 is found") {
  using Words = Exchange<Host, Local::Queue>;
  CHECK(Words::differs({7}) == 0);
  CHECK(Words::differs({7, 7, 7}) == 0);
  CHECK(Words::differs({7, 7, 8, 9}) == 2);
}

}  // namespace
}  // namespace tessera::engine
