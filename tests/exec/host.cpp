#include <tessera/exec/host.hpp>

#include <cmath>
#include <limits>
#include <random>
#include <utility>
#include <vector>

#include <doctest/doctest.h>

#include <tessera/exec/executor.hpp>

using namespace tessera;

static_assert(Executor<Host>);

namespace {

struct Increment {
  int* values;
  TESSERA_ALWAYS_INLINE void operator()(index_t i) const noexcept { ++values[i]; }
};

double documented(const float* x, index_t n) {
  double lane[8] = {};
  for (index_t i = 0; i < 64; ++i) lane[i % 8] += i < n ? static_cast<double>(x[i]) * static_cast<double>(x[i]) : 0.0;
  return ((lane[0] + lane[4]) + (lane[2] + lane[6])) + ((lane[1] + lane[5]) + (lane[3] + lane[7]));
}

}  // namespace

TEST_CASE("bytes are counted exactly, a copy counts its own, and buffers may outlive the host") {
  Host::Buffer<float> survivor;
  {
    Host host;
    auto a = host.allocate<float>(1000);
    auto none = host.allocate<double>(0);
    CHECK(host.allocated_bytes() == 4000);
    CHECK(none.span().empty());
    Host copy = host;
    CHECK(copy.allocated_bytes() == 0);
    {
      auto large = host.allocate<char>(5 << 20);
      CHECK(host.peak_bytes() == 4000 + (5 << 20));
      CHECK(large.span()[(5 << 20) - 1] == 0);
    }
    CHECK(host.allocated_bytes() == 4000);
    survivor = std::move(a);
    CHECK(host.allocated_bytes() == 4000);
    CHECK(host.record().done());
  }
  CHECK(survivor.span()[999] == 0.0f);
}

TEST_CASE("a loop visits each index once, whatever the number of threads") {
  for (const int threads : {1, 2, 3}) {
    Host host(threads);
    for (const index_t n : {0, 1, 63, 64, 65, 32767, 32768, 100001}) {
      std::vector<int> values(static_cast<std::size_t>(n));
      for (int turn = 0; turn < 3; ++turn) host.for_each(n, Increment{values.data()});
      for (const int value : values) REQUIRE(value == 3);
    }
  }
}

// The k-th of n numbers, for loops on any number of threads.
struct Number {
  TESSERA_ALWAYS_INLINE float operator()(index_t i) const noexcept {
    return static_cast<float>((i * 7919) % 2003 - 1001);
  }
};

TEST_CASE(
    "squares of numbers that are computed on the way are those of the numbers in memory, wherever a block begins") {
  for (const index_t lead : {0, 1, 63}) {
    for (const index_t n : {0, 1, 63, 64, 65, 2047, 2048, 2049, 100000}) {
      std::vector<float> values(static_cast<std::size_t>(lead + n));
      for (index_t i = 0; i < n; ++i) values[static_cast<std::size_t>(lead + i)] = Number{}(i);
      SquareSum expected;
      Host(1).add_squares(std::span<const float>(values), 0, &expected);
      for (const int threads : {1, 2, 3}) {
        ExactSum sum;
        Host(threads).add_squares_of(n, lead, Number{}, &sum);
        CHECK(sum.value() == expected.squares.value());
      }
    }
  }
}

TEST_CASE("a digest tells sequences apart by one element, by order, and not by threads") {
  std::vector<float> values(100000);
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = Number{}(static_cast<index_t>(i));
  const auto digest = [&](int threads) { return Host(threads).digest(std::span<const float>(values)); };
  const auto before = digest(1);
  CHECK(digest(3) == before);
  std::swap(values[5], values[99999]);
  CHECK(digest(1) != before);
  std::swap(values[5], values[99999]);
  values[777] = -values[777];
  CHECK(digest(2) != before);
}

TEST_CASE("squares are summed in the documented order, and the first non-finite element is found") {
  std::mt19937 random(6);
  std::normal_distribution<float> normal;
  for (const index_t n : {0, 1, 63, 64, 65, 1000, 70001}) {
    std::vector<float> values(static_cast<std::size_t>(n));
    for (float& value : values) value = normal(random);
    ExactSum expected;
    for (index_t i = 0; i < n; i += 64) expected.add(documented(values.data() + i, n - i));
    for (const int threads : {1, 2, 3}) {
      const auto sum_of = [&](const std::vector<float>& of) {
        SquareSum sum;
        Host(threads).add_squares(std::span<const float>(of), 1000, &sum);
        return sum;
      };
      CHECK(sum_of(values).first_non_finite == SquareSum::none);
      CHECK(sum_of(values).squares.value() == expected.value());
      if (n < 65) continue;
      for (const float bad : {std::numeric_limits<float>::quiet_NaN(), -std::numeric_limits<float>::infinity()}) {
        auto broken = values;
        broken.back() = bad;
        CHECK(sum_of(broken).first_non_finite == static_cast<std::uint64_t>(1000 + n - 1));
        broken[7] = bad;
        CHECK(sum_of(broken).first_non_finite == 1007);
      }
    }
  }
}
