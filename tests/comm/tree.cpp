#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include <tessera/comm/tree.hpp>
#include <tessera/core/bfloat16.hpp>
#include <tessera/core/float16.hpp>

#include "float_environment.hpp"

namespace tessera {
namespace {

float made_up(int rank, index_t i) {
  return std::sin(static_cast<float>(rank * 7919 + i)) * std::exp(static_cast<float>((rank * 5 + i) % 13 - 6));
}

// Splits at the largest power of two: the left part has that many leaves, the right part the rest.
float by_recursion(const std::vector<float>& leaves, std::size_t begin, std::size_t end) {
  if (end - begin == 1) return leaves[begin];
  std::size_t left = 1;
  while (2 * left < end - begin) left *= 2;
  return by_recursion(leaves, begin, begin + left) + by_recursion(leaves, begin + left, end);
}

template <class In, class Out>
void check(int leaves, index_t n) {
  std::vector<std::vector<In>> in(leaves);
  for (int r = 0; r < leaves; ++r)
    for (index_t i = 0; i < n; ++i) in[r].push_back(In(made_up(r, i)));
  std::vector<Out> out(n);
  sum_in_tree(leaves, n, [&](int r) { return in[r].data(); }, out.data());
  for (index_t i = 0; i < n; ++i) {
    std::vector<float> at_i;
    for (const auto& one : in) at_i.push_back(static_cast<float>(one[i]));
    CHECK(static_cast<float>(out[i]) == static_cast<float>(Out(by_recursion(at_i, 0, at_i.size()))));
  }
}

TEST_CASE("the tree has the bits of a recursive sum, for any number of leaves and elements") {
  for (int leaves = 1; leaves <= 17; ++leaves) check<float, float>(leaves, 67);
  for (index_t n : {0, 1, 63, 64, 255, 256, 257, 700}) check<float, float>(5, n);
}

TEST_CASE("16-bit leaves are summed in float and rounded once") {
  for (int leaves = 1; leaves <= 9; ++leaves) {
    check<bfloat16, bfloat16>(leaves, 70);
    check<bfloat16, float>(leaves, 70);
    check<float, bfloat16>(leaves, 70);
  }
}

TEST_CASE("a sum is scaled in float and then rounded") {
  const std::vector<float16> a(300, float16(65504.0f)), b(300, float16(65248.0f));
  std::vector<float16> mean(300), tripled(300);
  const float16* const leaves[] = {a.data(), b.data(), b.data()};
  sum_in_tree(3, 300, [&](int r) { return leaves[r]; }, mean.data(), 1.0f / 3);
  sum_in_tree(3, 300, [&](int r) { return leaves[r]; }, tripled.data(), 1);
  const float third = (65504.0f + 65248.0f + 65248.0f) * (1.0f / 3);
  for (int i = 0; i < 300; ++i) {
    CHECK(mean[i].bits == float16(third).bits);
    CHECK(std::isinf(static_cast<float>(tripled[i])));
  }
}

TEST_CASE("the sum of seven leaves is ((0+1)+(2+3)) + ((4+5)+6)") {
  const float x[7] = {1e8f, 1, -1e8f, 3, 0.1f, 1e7f, -1e7f};
  float out = 0;
  sum_in_tree(7, 1, [&](int r) { return &x[r]; }, &out);
  CHECK(out == ((x[0] + x[1]) + (x[2] + x[3])) + ((x[4] + x[5]) + x[6]));
}

TEST_CASE("the sum may be written over one of its leaves") {
  std::vector<float> a(300, 1.5f), b(300, 2.25f), c(300, 4);
  float* const leaves[] = {a.data(), b.data(), c.data()};
  sum_in_tree(3, 300, [&](int r) { return leaves[r]; }, b.data());
  CHECK(b == std::vector<float>(300, 7.75f));
}

TEST_CASE("denormals are summed and sums are rounded to nearest, in any environment of the calling thread") {
  const float tiny[3] = {1e-40f, 2e-40f, -0.5e-40f}, large[3] = {1, 0x1p-24f, 0};
  const float of_tiny = (tiny[0] + tiny[1]) + tiny[2];
  float sums[2];
  {
    const testing::StrangeEnvironment strange;
    sum_in_tree(3, 1, [&](int r) { return &tiny[r]; }, &sums[0]);
    sum_in_tree(3, 1, [&](int r) { return &large[r]; }, &sums[1]);
    CHECK(testing::StrangeEnvironment::holds());
  }
  CHECK(sums[0] == of_tiny);
  CHECK(sums[1] == 1);
}

TEST_CASE("integers are summed modulo 2^64") {
  const std::int64_t x[3] = {std::int64_t{1} << 62, std::int64_t{1} << 62, 5};
  TreeSum<SumType<std::int64_t>> sum;
  CHECK(static_cast<std::uint64_t>(*sum(3, 1, [&](int r) { return &x[r]; })) == (std::uint64_t{1} << 63) + 5);
}

TEST_CASE("a sum over several calls has the bits of a sum in one call, wherever it is split") {
  constexpr index_t n = 300, most = 24;
  std::vector<std::vector<float>> in(most);
  for (int r = 0; r < most; ++r)
    for (index_t i = 0; i < n; ++i) in[r].push_back(made_up(r, i));
  for (int leaves = 1; leaves <= most; ++leaves) {
    std::vector<float> whole(n);
    sum_in_tree(leaves, n, [&](int r) { return in[r].data(); }, whole.data(), 0.75f);
    for (int world = 1; world <= leaves; ++world) {
      std::vector<float> sums(5 * n, 1e30f), out(n, -1.0f);
      for (int before = 0; before < leaves; before += world) {
        const int added = std::min(world, leaves - before);
        const bool last = before + added == leaves;
        continue_sum_in_tree(
            sums.data(), n, before, added, last, n, [&](int r) { return in[before + r].data(); }, out.data(), 0.75f);
        if (!last) CHECK(out[0] == -1.0f);
      }
      CHECK(out == whole);
    }
  }
}

TEST_CASE("partial sums to which no new leaf is added are not accessed") {
  const std::vector<float> leaf(64, 1.0f);
  std::vector<float> sums(3 * 64, 7.0f);  // of 12 leaves: 8 and 4
  continue_sum_in_tree(sums.data(), 64, 12, 1, false, 64, [&](int) { return leaf.data(); }, static_cast<float*>(nullptr));
  CHECK(sums[0] == 7.0f);
  CHECK(sums[64] == 7.0f);
  CHECK(sums[128] == 1.0f);
  // Three more complete 16 leaves: ((1 + 1) + (1 + 1)), added to the sum of 4, then to the sum of 8.
  continue_sum_in_tree(sums.data(), 64, 13, 3, false, 64, [&](int) { return leaf.data(); }, static_cast<float*>(nullptr));
  CHECK(sums[0] == 7.0f + (7.0f + 4.0f));
  CHECK(sums_after(16) == 1);
}

}  // namespace
}  // namespace tessera
