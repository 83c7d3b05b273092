#include <cuda_runtime.h>
#include <doctest/doctest.h>

#include <cmath>
#include <vector>

#include <tessera/core/bfloat16.hpp>
#include <tessera/cuda/collectives/tree.cuh>

namespace tessera {
namespace {

float made_up(int leaf, int i) { return std::sin(static_cast<float>(leaf * 7919 + i)) * std::exp(leaf % 13 - 6.0f); }

// The sum of leaves with four numbers each, by comm/tree.hpp.
std::vector<float> on_the_host(int leaves) {
  std::vector<std::vector<float>> in(leaves);
  for (int r = 0; r < leaves; ++r)
    for (int i = 0; i < 4; ++i) in[r].push_back(made_up(r, i));
  std::vector<float> out(4);
  sum_in_tree(
      leaves, 4, [&](int r) { return in[r].data(); }, out.data());
  return out;
}

struct MadeUp {
  const float* numbers;
  TESSERA_HD collectives::Pack<float, 4> operator()(int leaf) const { return collectives::load<4>(numbers + 4 * leaf); }
};

template <class Sums>
void check(int leaves, const Sums& sums) {
  alignas(16) float numbers[127 * 4];
  for (int r = 0; r < leaves; ++r)
    for (int i = 0; i < 4; ++i) numbers[4 * r + i] = made_up(r, i);
  const collectives::Pack<float, 4> sum = sums(MadeUp{numbers});
  CHECK(std::vector<float>(sum.of, sum.of + 4) == on_the_host(leaves));
}

TEST_CASE("any number of leaves has the bits of the host's tree") {
  for (int leaves = 1; leaves <= 127; ++leaves)
    check(leaves, [&](const MadeUp& leaf) { return collectives::sum_in_tree(leaves, leaf); });
}

TEST_CASE("a power of two of leaves, known at compile time, has the bits of the host's tree") {
  check(1, [](const MadeUp& leaf) { return collectives::sum_in_tree<0, 1>(leaf); });
  check(2, [](const MadeUp& leaf) { return collectives::sum_in_tree<0, 2>(leaf); });
  check(4, [](const MadeUp& leaf) { return collectives::sum_in_tree<0, 4>(leaf); });
  check(8, [](const MadeUp& leaf) { return collectives::sum_in_tree<0, 8>(leaf); });
}

// A sum over `calls` calls of `leaves` leaves each. world: as in continue_sum.
template <int world>
void check_continued(int leaves, int calls) {
  CAPTURE(world);
  CAPTURE(leaves);
  CAPTURE(calls);
  alignas(16) float sums[8 * 4];
  check(leaves * calls, [&](const MadeUp& leaf) {
    collectives::Pack<float, 4> out;
    for (int k = 0; k < calls; ++k) {
      const Carry carry{.stride = 4, .before = k * leaves, .leaves = leaves, .last = k + 1 == calls};
      collectives::continue_sum<world, 4>(carry, sums, 0, MadeUp{leaf.numbers + 4 * k * leaves}, 1.0f, out.of);
    }
    return out;
  });
}

TEST_CASE("a sum over several calls has the bits of the host's tree, for any number of leaves per call") {
  for (int calls = 1; calls <= 9; ++calls) {
    check_continued<1>(1, calls);
    check_continued<2>(2, calls);
    check_continued<4>(4, calls);
    check_continued<8>(8, calls);
    for (const int leaves : {1, 2, 3, 5, 6, 7, 8, 14}) {
      check_continued<0>(leaves, calls);
      check_continued<collectives::many_ranks>(leaves, calls);
    }
  }
}

TEST_CASE("a pack has 16 bytes, or the size of its elements if that is less, and that alignment") {
  static_assert(sizeof(collectives::Pack<bfloat16, 8>) == 16 && alignof(collectives::Pack<bfloat16, 8>) == 16);
  static_assert(sizeof(collectives::Pack<float, 8>) == 32 && alignof(collectives::Pack<float, 8>) == 16);
  static_assert(sizeof(collectives::Pack<bfloat16, 4>) == 8 && alignof(collectives::Pack<bfloat16, 4>) == 8);
  alignas(16) const float numbers[8] = {};
  CHECK(collectives::is_aligned<float>(numbers));
  CHECK_FALSE(collectives::is_aligned<float>(numbers + 1));
  alignas(16) const bfloat16 halves[8] = {};
  CHECK(collectives::is_aligned<float>(halves + 4));  // four halves belong to a pack of four floats
  CHECK_FALSE(collectives::is_aligned<bfloat16>(halves + 4));
}

}  // namespace
}  // namespace tessera
