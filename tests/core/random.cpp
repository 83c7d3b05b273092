#include <doctest/doctest.h>

#include <array>
#include <bit>
#include <cmath>
#include <cstdint>

#include <tessera/core/random.hpp>

namespace tessera {
namespace {

TEST_CASE("bits depend only on seed, step and element offset") {
  constexpr core::StepRandom random(5, 7);
  static_assert(random.bits(9) == core::StepRandom(5, 7).bits(9));
  CHECK(random.bits(9) != random.bits(10));
  CHECK(random.bits(9) != core::StepRandom(6, 7).bits(9));
  CHECK(random.bits(9) != core::StepRandom(5, 8).bits(9));
  CHECK(random.bits(9) != random.bits(9 + (index_t{1} << 32)));
}

// Each statistic below has a normal distribution with mean 0 and deviation 1 if bits are fair and independent. |z| >=
// 5.5 occurs by chance with probability 4e-8 per statistic, less than 1e-5 in total. Seeds are fixed, so results
// repeat.
constexpr double bound = 5.5;
constexpr int draws = 1 << 20;

template <class Bits>
void check_fair(Bits bits) {
  std::array<int, 32> ones{}, with_next{};
  std::array<int, 256> low_bytes{};
  std::uint32_t last = bits(-1);
  for (int i = 0; i < draws; ++i) {
    const std::uint32_t x = bits(i);
    for (int b = 0; b < 32; ++b) {
      ones[b] += x >> b & 1;
      with_next[b] += (x ^ last) >> b & 1;  // a bit compared with the same bit of the next element
    }
    ++low_bytes[x & 255];
    last = x;
  }
  const auto z = [](int count, double p) { return (count - draws * p) / std::sqrt(draws * p * (1 - p)); };
  for (int b = 0; b < 32; ++b) {
    CHECK(std::abs(z(ones[b], 0.5)) < bound);
    CHECK(std::abs(z(with_next[b], 0.5)) < bound);
  }
  for (const int count : low_bytes) CHECK(std::abs(z(count, 1.0 / 256)) < bound);
}

TEST_CASE("bits are fair and independent between offsets, between steps and between seeds") {
  check_fair([](index_t i) { return core::StepRandom(1, 1).bits(i + 1); });
  check_fair([](index_t i) { return core::StepRandom(1, i + 1).bits(77); });
  check_fair([](index_t i) { return core::StepRandom(static_cast<std::uint64_t>(i + 1), 3).bits(77); });
  check_fair([](index_t i) { return core::StepRandom(1, 1).bits((i + 1) << 32); });
}

}  // namespace
}  // namespace tessera
