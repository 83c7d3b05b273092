#include <doctest/doctest.h>
#include <sys/mman.h>

#include <cerrno>
#include <memory>
#include <vector>

#include "memory_limit.hpp"

namespace tessera {
namespace {

constexpr std::size_t piece = std::size_t{64} << 20;

TEST_CASE("a test that allocates without end fails at the limit, before it touches the memory") {
  std::vector<void*> taken;
  int error = 0;
  while (error == 0 && taken.size() * piece <= test_memory) {
    void* const memory = mmap(nullptr, piece, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED)
      error = errno;
    else
      taken.push_back(memory);
  }
  CHECK(error == ENOMEM);
  CHECK(taken.size() > 0);
  for (void* const memory : taken) munmap(memory, piece);
}

#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__) && !defined(__clang__)  // they end the program
TEST_CASE("a test that allocates too much gets std::bad_alloc") {
  std::vector<std::unique_ptr<char[]>> taken;
  const auto run_away = [&] {
    while (taken.size() * piece <= test_memory) taken.push_back(std::make_unique_for_overwrite<char[]>(piece));
  };
  CHECK_THROWS_AS(run_away(), std::bad_alloc);
}
#endif

}  // namespace
}  // namespace tessera
