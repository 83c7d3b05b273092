#include <tessera/exec/host.hpp>

#include <cmath>
#include <limits>
#include <random>
#include <utility>
#include <vector>

#include <doctest/doctest.h>

#include <tessera/exec/executor.hpp>

#include "float_environment.hpp"

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

// All digits: the value of a sum, a double, hides small differences.
std::vector<std::uint64_t> digits_of(ExactSum sum) {
  sum.normalise();
  std::vector<std::uint64_t> digits;
  for (int i = 0; i < ExactSum::limbs; ++i) digits.push_back(sum.digit(i));
  return digits;
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

TEST_CASE("a loop visits each index once, with any number of threads") {
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
    return static_cast<float>((i * 7919) % 2003 - 1001) / 977;
  }
};

TEST_CASE(
    "the squares of computed numbers equal those of the same numbers in memory, wherever a block begins") {
  for (const index_t lead : {0, 1, 63}) {
    for (const index_t n : {0, 1, 63, 64, 65, 2047, 2048, 2049, 100000}) {
      std::vector<float> values(static_cast<std::size_t>(lead + n));
      for (index_t i = 0; i < n; ++i) values[static_cast<std::size_t>(lead + i)] = Number{}(i);
      SquareSum expected;
      Host(1).add_squares(std::span<const float>(values), 0, &expected);
      for (const int threads : {1, 2, 3}) {
        ExactSum sum;
        Host(threads).add_squares_of(n, lead, Number{}, &sum);
        CHECK(digits_of(sum) == digits_of(expected.squares));
      }
    }
  }
}

namespace {

// In another environment than the default, x is 0 or y is larger.
struct Delicate {
  float* x;
  float* y;
  TESSERA_ALWAYS_INLINE void operator()(index_t i) const noexcept {
    x[i] = x[i] * 3;
    y[i] = y[i] + 0x1p-24f;
  }
};

struct DelicateOnceComplete {
  const float* third;
  Delicate body;
  bool enabled() const noexcept { return true; }
  auto bind() const noexcept {
    return [factor = 1 / *third, x = body.x](index_t i) { x[i] = factor; };
  }
};

// The results of each kind of loop for the same numbers.
std::vector<std::uint64_t> results_of_loops(int threads) {
  constexpr index_t n = 100001;
  Host host(threads);
  std::vector<float> x(n, 0x1p-149f), y(n, 1), third(1, 3);
  std::vector<std::uint64_t> results;
  const auto note = [&](const std::vector<float>& values) {
    for (const float value : values) results.push_back(bits_as<std::uint32_t>(value));
  };
  host.for_each(n, Delicate{x.data(), y.data()});
  note(x), note(y);
  host.once([&] { Delicate{x.data(), y.data()}(0); });
  note(x), note(y);
  SquareSum sum;
  host.add_squares(std::span<const float>(x), 0, &sum);
  host.add_squares(std::span<const float>(y), 0, &sum);
  for (int i = 0; i < ExactSum::limbs; ++i) results.push_back(sum.squares.digit(i));
  ExactSum others;
  host.add_squares_of(n, 3, [x = x.data()](index_t i) { return x[i] * 5; }, &others);
  for (int i = 0; i < ExactSum::limbs; ++i) results.push_back(others.digit(i));
  results.push_back(host.digest(std::span<const float>(x)));
  host.for_each(n, DelicateOnceComplete{third.data(), {x.data(), y.data()}});
  note(x);
  const volatile double seventh = 1.0 / 7, tiny = 0x1p-140;
  host.from_host(n, [&](index_t i) { return i % 2 == 0 ? seventh : tiny / 7; }, [&](index_t i, float v) { x[static_cast<std::size_t>(i)] = v; });
  note(x);
  return results;
}

}  // namespace

TEST_CASE("every loop runs in the default floating-point environment, and the caller's is restored") {
  for (const int threads : {1, 3}) {
    const auto expected = results_of_loops(threads);
    const tessera::testing::StrangeEnvironment strange;
    const bool same = results_of_loops(threads) == expected;
    CHECK(same);
    CHECK(tessera::testing::StrangeEnvironment::holds());
  }
}

TEST_CASE("a digest depends on every element and on their order, but not on threads") {
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
      CHECK(digits_of(sum_of(values).squares) == digits_of(expected));
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
