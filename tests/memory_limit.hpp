// What every test program does first: a test that takes memory without end fails, and leaves the machine its own.
#pragma once

#include <sys/resource.h>
#include <unistd.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <fstream>

namespace tessera {

/// Far above what a test program takes (a quarter of a GB, most of it stacks of ranks' threads; with a sanitizer, whose
/// freed memory is kept for a while, some more), and far below what a machine has.
inline constexpr std::uint64_t test_memory = std::uint64_t{4} << 30;

/// From now on the program may have `bytes` more of private memory, touched or not; more is std::bad_alloc, or a
/// sanitizer's report. (Not RLIMIT_AS, and not from zero: sanitizers reserve terabytes of addresses when they begin.)
inline void limit_memory(std::uint64_t bytes = test_memory) {
  std::ifstream file("/proc/self/statm");
  std::uint64_t pages = 0;  // the sixth number: of data and stacks
  for (int field = 0; field < 6; ++field) file >> pages;
  rlimit limit{};
  getrlimit(RLIMIT_DATA, &limit);
  limit.rlim_cur = pages * static_cast<std::uint64_t>(sysconf(_SC_PAGESIZE)) + bytes;
  if (limit.rlim_cur > limit.rlim_max) return;  // who started the program was stricter
  if (file && setrlimit(RLIMIT_DATA, &limit) == 0) return;
  std::perror("tests: the program's memory cannot be limited");
  std::exit(1);
}

}  // namespace tessera
