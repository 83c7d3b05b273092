#include <tessera/core/exact_sum.hpp>

#include <algorithm>
#include <cmath>
#include <random>
#include <vector>

#include <doctest/doctest.h>

using tessera::ExactSum;

namespace {

double sum_of(const std::vector<double>& values) {
  ExactSum sum;
  for (const double value : values) sum.add(value);
  return sum.value();
}

}  // namespace

TEST_CASE("the sum of a single addend is the addend, over the whole range") {
  std::mt19937_64 random(1);
  CHECK(sum_of({}) == 0.0);
  for (int exponent = -298; exponent <= 262; ++exponent) {
    CHECK(sum_of({std::ldexp(1.0, exponent)}) == std::ldexp(1.0, exponent));
    if (exponent > 261) continue;
    const double value = std::ldexp(1.0 + std::ldexp(static_cast<double>(random() >> 12), -52), exponent);
    CHECK(sum_of({value}) == value);
  }
}

TEST_CASE("sums that fit in a 128-bit integer are rounded once, to nearest, ties to even") {
  __extension__ using Wide = unsigned __int128;
  std::mt19937_64 random(2);
  for (int trial = 0; trial < 2000; ++trial) {
    Wide exact = 0;
    std::vector<double> values;
    for (int i = 0; i < 40; ++i) {
      const auto mantissa = static_cast<std::uint64_t>(random() >> 11);
      const int shift = static_cast<int>(random() % 60);
      values.push_back(std::ldexp(static_cast<double>(mantissa), shift));
      exact += static_cast<Wide>(mantissa) << shift;
    }
    CHECK(sum_of(values) == static_cast<double>(exact));
    std::shuffle(values.begin(), values.end(), random);
    CHECK(sum_of(values) == static_cast<double>(exact));
  }
  const double big = std::ldexp(1.0, 53);
  CHECK(sum_of({big, 1}) == big);
  CHECK(sum_of({big, 1, 1}) == big + 2);
  CHECK(sum_of({big + 2, 1}) == big + 4);
  CHECK(sum_of({big, 1, std::ldexp(1.0, -298)}) == big + 2);
}

TEST_CASE("digits that are summed over ranks give the sum of all ranks, normalised or not") {
  std::mt19937_64 random(3);
  ExactSum all, merged, reduced;
  for (int rank = 0; rank < 7; ++rank) {
    ExactSum part;
    for (int i = 0; i < 1000; ++i) {
      const double value = std::ldexp(static_cast<double>(random() >> 11), static_cast<int>(random() % 500) - 298);
      all.add(value);
      part.add(value);
    }
    merged.add(part);
    part.normalise();
    for (int i = 0; i < ExactSum::limbs; ++i)
      reduced.set_digit(i, reduced.digit(i) + part.digit(i));
  }
  CHECK(reduced.value() == all.value());
  CHECK(merged.value() == all.value());
  reduced.normalise();
  CHECK(reduced.value() == all.value());
}
