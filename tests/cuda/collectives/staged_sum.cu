#include <cuda_runtime.h>
#include <doctest/doctest.h>

#include <cmath>
#include <vector>

#include <tessera/comm/tree.hpp>
#include <tessera/cuda/collectives/staged_sum.cuh>
#include <tessera/cuda/runtime/stream.cuh>

#include "cuda/ranks.hpp"

namespace tessera {
namespace {

template <class In>
In made_up(int rank, index_t i) {
  return In(std::sin(static_cast<float>(rank * 101 + i * 3)) * (rank % 3 == 0 ? 1000.0f : 0.01f));
}

template <class T>
bool same(const T& a, const T& b) {
  return static_cast<float>(a) == static_cast<float>(b);
}

// The sum of `n` elements of each of `ranks`, with the stride `stride`, starting `shift` elements after an aligned
// address. In place: the output is this rank's own input.
template <class In, class Out>
bool right(int ranks, int rank, index_t n, index_t stride, index_t shift, bool in_place) {
  std::vector<In> staged(static_cast<std::size_t>(shift + ranks * stride), In(-1.0f)), own(staged);
  std::vector<std::vector<In>> leaves(static_cast<std::size_t>(ranks));
  for (int r = 0; r < ranks; ++r)
    for (index_t i = 0; i < n; ++i) {
      const In value = made_up<In>(r, i);
      leaves[static_cast<std::size_t>(r)].push_back(value);
      (r == rank ? own[static_cast<std::size_t>(shift + i)]
                 : staged[static_cast<std::size_t>(shift + r * stride + i)]) = value;
    }
  const float scale = 1 / static_cast<float>(ranks);
  std::vector<Out> wanted(static_cast<std::size_t>(n));
  sum_in_tree(
      ranks, n, [&](int r) { return leaves[static_cast<std::size_t>(r)].data(); }, wanted.data(), scale);

  const CudaStream stream;
  testing::DeviceMemory<In> of_others(staged), mine(own);
  testing::DeviceMemory<Out> out(std::vector<Out>(static_cast<std::size_t>(n + 1), Out(-1.0f)));
  Out* const to = in_place ? reinterpret_cast<Out*>(mine.out().data() + shift) : out.out().data();
  collectives::staged_sum<In, Out>(
      {of_others.in().data() + shift, mine.in().data() + shift, to, stride, n, rank, ranks, scale},
      {.stream = stream.get(), .multiprocessors = 2, .ranks = {}});
  REQUIRE(cudaStreamSynchronize(stream.get()) == cudaSuccess);
  bool all = true;
  if (in_place) {
    const std::vector<In> sums = mine.get();
    for (index_t i = 0; i < n; ++i)
      all &= static_cast<float>(sums[static_cast<std::size_t>(shift + i)]) ==
             static_cast<float>(wanted[static_cast<std::size_t>(i)]);
  } else {
    const std::vector<Out> sums = out.get();
    for (index_t i = 0; i < n; ++i) all &= same(sums[static_cast<std::size_t>(i)], wanted[static_cast<std::size_t>(i)]);
    all &= same(sums.back(), Out(-1.0f));
  }
  return all;
}

TEST_CASE("staged data is summed in the fixed tree, scaled and rounded once, for any number of ranks") {
  for (const int ranks : {1, 2, 3, 4, 5, 7, 8, 13, 63, 64, 65, 130, 200}) {
    CAPTURE(ranks);
    CHECK(right<float, float>(ranks, ranks / 2, 100, 128, 0, false));
    CHECK(right<bfloat16, float>(ranks, 0, 100, 128, 0, false));
    CHECK(right<bfloat16, bfloat16>(ranks, ranks - 1, 70, 128, 0, true));
  }
}

// `micro_batches` leaves of `ranks` ranks, added pass by pass, compared with one sum over all of them.
template <class In, class Out>
bool right_in_passes(int micro_batches, int ranks, index_t n) {
  std::vector<std::vector<In>> leaves(to_size(micro_batches));
  for (int j = 0; j < micro_batches; ++j)
    for (index_t i = 0; i < n; ++i) leaves[to_size(j)].push_back(made_up<In>(j, i));
  const float scale = 1 / static_cast<float>(micro_batches);
  std::vector<Out> wanted(to_size(n));
  sum_in_tree(
      micro_batches, n, [&](int j) { return leaves[to_size(j)].data(); }, wanted.data(), scale);

  const index_t stride = round_up(n, 64);
  const CudaStream stream;
  testing::DeviceMemory<float> sums(std::vector<float>(to_size(8 * stride), 1e30f));
  testing::DeviceMemory<Out> out(std::vector<Out>(to_size(n)));
  for (int before = 0; before < micro_batches; before += ranks) {
    const int added = min(ranks, micro_batches - before);
    std::vector<In> staged(to_size(ranks * stride), In(-1.0f)), own(to_size(stride), In(-1.0f));
    for (int r = 0; r < added; ++r)
      for (index_t i = 0; i < n; ++i)
        (r == 0 ? own[to_size(i)] : staged[to_size(r * stride + i)]) = leaves[to_size(before + r)][to_size(i)];
    testing::DeviceMemory<In> of_others(staged), mine(own);
    collectives::StagedSum<In, Out, 0> sum{of_others.in().data(), mine.in().data(), out.out().data(), stride, n, 0, ranks,
                                           scale};
    sum.sums = sums.out().data();
    sum.carry = {.stride = stride, .before = before, .leaves = added,
                 .last = before + added == micro_batches};
    if (added == ranks) sum.carry.leaves = Carry::every_rank;
    collectives::staged_sum<In, Out>(sum, {.stream = stream.get(), .multiprocessors = 2, .ranks = {}});
    REQUIRE(cudaStreamSynchronize(stream.get()) == cudaSuccess);
  }
  bool all = true;
  const std::vector<Out> got = out.get();
  for (index_t i = 0; i < n; ++i) all &= same(got[to_size(i)], wanted[to_size(i)]);
  return all;
}

TEST_CASE("a sum that is continued from pass to pass has the bits of one sum over all micro-batches") {
  for (const int ranks : {1, 2, 3, 4, 5, 7, 8, 12})
    for (const int micro_batches : {1, 2, 3, 7, 8, 12, 13, 24, 31}) {
      CAPTURE(ranks);
      CAPTURE(micro_batches);
      CHECK(right_in_passes<float, float>(micro_batches, ranks, 70));
      CHECK(right_in_passes<bfloat16, bfloat16>(micro_batches, ranks, 64));
    }
  CHECK(right_in_passes<float, float>(200, 70, 70));
  CHECK(right_in_passes<float, float>(2100, 700, 7));
}

TEST_CASE("sums may be in place, and arrays may have any alignment") {
  for (const int ranks : {1, 3, 4})
    for (const index_t shift : {0, 1})
      for (const index_t n : {0, 1, 7, 300}) {
        CHECK(right<float, float>(ranks, 0, n, 300, shift, true));
        CHECK(right<float16, float>(ranks, ranks - 1, n, 301, shift, false));
        CHECK(right<double, double>(ranks, 0, n, 300, shift, false));
      }
}

}  // namespace
}  // namespace tessera
