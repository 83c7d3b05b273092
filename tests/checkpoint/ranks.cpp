#include <doctest/doctest.h>

#include <mutex>
#include <string>
#include <vector>

#include <tessera/checkpoint/ranks.hpp>
#include <tessera/comm/local/local.hpp>

namespace tessera::checkpoint {
namespace {

TEST_CASE("every rank gets the words of all ranks, if all succeeded") {
  run_ranks(3, [](Local& comm) {
    RanksOf<Local> ranks(comm, std::chrono::seconds(10));
    const auto words = ranks.require_all(caught([] {}), static_cast<std::uint64_t>(10 + comm.rank()), "f", "failed");
    CHECK(std::vector<std::uint64_t>(words.begin(), words.end()) == std::vector<std::uint64_t>{10, 11, 12});
  });
}

TEST_CASE("a rank that failed throws its own error, and the others one that names it") {
  std::mutex mutex;
  std::vector<std::string> errors(3);
  run_ranks(3, [&](Local& comm) {
    RanksOf<Local> ranks(comm, std::chrono::seconds(10));
    const auto problem = caught([&] {
      if (comm.rank() == 1) throw CheckpointError("f: the disk is full");
    });
    try {
      ranks.require_all(problem, 0, "f", "could not write");
    } catch (const Error& error) {
      const std::scoped_lock lock(mutex);
      errors[to_size(comm.rank())] = error.what();
    }
  });
  CHECK(errors == std::vector<std::string>{"f: rank 1 could not write; it says why", "f: the disk is full",
                                           "f: rank 1 could not write; it says why"});
}

TEST_CASE("the host's memory is one chunk, without a copy") {
  Host host;
  const std::vector<float> all(1'000'000, 2);
  int chunks = 0;
  for_each_chunk(host, std::span(all), [&](index_t first, std::span<const std::byte> bytes) {
    ++chunks;
    CHECK(first == 0);
    CHECK(bytes.data() == reinterpret_cast<const std::byte*>(all.data()));
    CHECK(bytes.size() == 4'000'000);
  });
  CHECK(chunks == 1);
}

}  // namespace
}  // namespace tessera::checkpoint
