#include <doctest/doctest.h>

#include <algorithm>
#include <limits>
#include <vector>

#include <tessera/core/bfloat16.hpp>
#include <tessera/exec/squares.hpp>

using namespace tessera;

namespace {

// The documented order, in plain code.
template <class T>
double plain(const T* x, index_t n) {
  double lane[8] = {};
  for (index_t i = 0; i < n; ++i) lane[i % 8] += double(float(x[i])) * double(float(x[i]));
  return ((lane[0] + lane[4]) + (lane[2] + lane[6])) + ((lane[1] + lane[5]) + (lane[3] + lane[7]));
}

template <class T>
void check_sizes() {
  std::vector<T> x(1000);
  for (std::size_t i = 0; i < x.size(); ++i) x[i] = T(1.0f / static_cast<float>(3 + i % 89) - 0.1f);
  for (index_t n : {0, 1, 7, 8, 63, 64, 65, 128, 700, 1000}) {
    ExactSum expected, sum;
    for (index_t at = 0; at < n; at += block) expected.add(plain(x.data() + at, std::min(block, n - at)));
    CHECK(squares::add(x.data(), 0, n, sum) == -1);
    CHECK(sum.value() == expected.value());
  }
}

}  // namespace

TEST_CASE("blocks are summed in the documented order, in float and bfloat16, also short blocks") {
  check_sizes<float>();
  check_sizes<bfloat16>();
}

TEST_CASE("computed numbers have the sums of the same numbers in memory, wherever their first block begins") {
  for (const index_t lead : {0, 1, 40, 63})
    for (const index_t n : {0, 1, 24, 64, 65, 2048, 5000}) {
      const auto number = [](index_t i) { return 1.0f / static_cast<float>(3 + i % 89) - 0.1f; };
      std::vector<float> x(static_cast<std::size_t>(lead + n));
      for (index_t i = 0; i < n; ++i) x[static_cast<std::size_t>(lead + i)] = number(i);
      ExactSum expected, sum;
      squares::add(x.data(), 0, lead + n, expected);
      squares::add_of(number, 0, n, lead, sum);
      for (int k = 0; k < ExactSum::limbs; ++k) CHECK(sum.digit(k) == expected.digit(k));
    }
}

TEST_CASE("the first element that is not finite is found at any position") {
  for (index_t at : {0, 1, 63, 64, 127, 128, 199}) {
    std::vector<float> x(200, 3e38f);  // squares of large finite numbers must not count as infinite
    ExactSum sum;
    CHECK(squares::add(x.data(), 0, 200, sum) == -1);
    x[static_cast<std::size_t>(at)] = std::numeric_limits<float>::quiet_NaN();
    x[199] = std::numeric_limits<float>::infinity();
    CHECK(squares::add(x.data(), 0, 200, sum) == at);
  }
}
