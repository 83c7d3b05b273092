// Called first by every test program: a test that allocates without end fails instead of exhausting the machine.
#pragma once

#include <sys/resource.h>
#include <unistd.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <fstream>

namespace tessera {

/// Far more than a test program needs (a quarter of a GB, mostly stacks of ranks' threads; somewhat more with a
/// sanitizer, which keeps freed memory for a while), and far less than a machine has.
inline constexpr std::uint64_t test_memory = std::uint64_t{4} << 30;

/// Limits the program to `bytes` more private memory, touched or not; beyond it allocations throw std::bad_alloc or a
/// sanitizer reports. (Not RLIMIT_AS, and not counted from zero: sanitizers reserve terabytes of addresses at start.)
inline void limit_memory(std::uint64_t bytes = test_memory) {
  std::ifstream file("/proc/self/statm");
  std::uint64_t pages = 0;  // the sixth number: data and stacks
  for (int field = 0; field < 6; ++field) file >> pages;
  rlimit limit{};
  getrlimit(RLIMIT_DATA, &limit);
  limit.rlim_cur = pages * static_cast<std::uint64_t>(sysconf(_SC_PAGESIZE)) + bytes;
  if (limit.rlim_cur > limit.rlim_max) return;  // the caller's limit is lower
  if (file && setrlimit(RLIMIT_DATA, &limit) == 0) return;
  std::perror("tests: the program's memory cannot be limited");
  std::exit(1);
}

}  // namespace tessera
