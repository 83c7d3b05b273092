// Compares the digest of values with reading them: the ceiling, measured in the same run, reads the same memory with
// the same vector code and number of threads, and only adds. Times are processor times, over all threads, so that other
// programs on the machine do not count.
#include <time.h>

#include <cstdio>
#include <fstream>
#include <mutex>
#include <sstream>
#include <string>
#include <vector>

#include <CLI/CLI.hpp>

#include <tessera/core/bfloat16.hpp>
#include <tessera/exec/host.hpp>
#include <tessera/exec/team.hpp>

#include "samples.hpp"

using namespace tessera;

namespace {

// The sum of 64-bit words, with the digest's prefetching.
struct Read {
  const unsigned char* bytes;
  index_t blocks;
  std::uint64_t* sum;

  TESSERA_ALWAYS_INLINE void operator()() const noexcept {
    for (index_t b = 0; b < blocks; ++b) {
      const unsigned char* const first = bytes + b * value_digest::block_bytes;
      for (index_t line = 0; line < value_digest::block_bytes; line += 64)
        __builtin_prefetch(first + 2 * value_digest::block_bytes + line);
      std::uint64_t part = 0;
      for (index_t i = 0; i < value_digest::block_bytes; i += 8) {
        std::uint64_t word;
        __builtin_memcpy(&word, first + i, 8);
        part += word;
      }
      *sum += part;
    }
  }
};

std::uint64_t read(exec::Team& team, const void* memory, index_t bytes) {
  const index_t blocks = bytes / value_digest::block_bytes, each = ceil_div(blocks, team.parts());
  std::mutex merging;
  std::uint64_t sum = 0;
  team.run([&](int part) {
    const index_t begin = min(blocks, each * part);
    std::uint64_t of_part = 0;
    exec::run_as(exec::best_isa(), Read{static_cast<const unsigned char*>(memory) + begin * value_digest::block_bytes,
                            min(each, blocks - begin), &of_part});
    const std::scoped_lock lock(merging);
    sum += of_part;
  });
  return sum;
}

double processor_seconds() {
  timespec time;
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
  return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
}

volatile std::uint64_t seen;

// Small sizes are repeated within a sample, so that every sample takes milliseconds.
template <class T>
std::string row(const char* type, index_t n, int threads, int repeats) {
  Host host(threads);
  exec::Team team(threads);
  auto memory = host.allocate<T>(n);
  for (index_t i = 0; i < n; ++i) memory.span()[static_cast<std::size_t>(i)] = T(1e-3f * static_cast<float>(i % 97));
  const std::span<const T> values = memory.span();
  const auto bytes = static_cast<index_t>(values.size_bytes());
  const int passes = static_cast<int>(max<index_t>(1, (index_t{1} << 25) / bytes));
  const auto rate = [&](const auto& call) {  // bytes per second of all threads
    const double begin = processor_seconds();
    for (int pass = 0; pass < passes; ++pass) seen = call();
    return static_cast<double>(bytes) * passes * threads / (processor_seconds() - begin);
  };
  const auto digest = [&] { return host.digest(values); };
  const auto ceiling = [&] { return read(team, values.data(), bytes); };
  std::vector<double> digests, ceilings;
  rate(digest), rate(ceiling);
  for (int repeat = 0; repeat < repeats; ++repeat) {
    digests.push_back(rate(digest));
    ceilings.push_back(rate(ceiling));
    ceilings.push_back(rate(ceiling));
    digests.push_back(rate(digest));
  }
  char text[160];
  std::snprintf(text, sizeof text, "| %s | %lld | %d | %s | %s | %.2f |", type, static_cast<long long>(n), threads,
                with_spread(digests, 1e-9, 1).c_str(), with_spread(ceilings, 1e-9, 1).c_str(),
                median(digests) / median(ceilings));
  return text;
}

}  // namespace

int main(int argc, char** argv) {
  std::vector<index_t> sizes{index_t{1} << 20, index_t{1} << 23, index_t{1} << 25, index_t{1} << 27};
  std::vector<int> threads{1, 2};
  int repeats = 9;
  std::string markdown;
  CLI::App app{"The digest of first weights against a loop that reads the same bytes and only adds"};
  app.add_option("--sizes", sizes, "elements")->delimiter(',')->check(CLI::PositiveNumber);
  app.add_option("--threads", threads, "threads")->delimiter(',')->check(CLI::PositiveNumber);
  app.add_option("--repeats", repeats, "samples, each A B B A")->check(CLI::PositiveNumber);
  app.add_option("--markdown", markdown, "also append the table to this file");
  CLI11_PARSE(app, argc, argv);

  std::ostringstream table;
  const auto say = [&](const std::string& line) {
    std::puts(line.c_str());
    std::fflush(stdout);
    table << line << '\n';
  };
  say("| values | elements | threads | digest GB/s | read GB/s | ratio |");
  say("| --- | --- | --- | --- | --- | --- |");
  for (const index_t n : sizes)
    for (const int t : threads) {
      say(row<float>("float", n, t, repeats));
      say(row<bfloat16>("bfloat16", n, t, repeats));
    }
  if (!markdown.empty()) std::ofstream(markdown, std::ios::app) << table.str();
}
