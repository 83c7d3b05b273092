#include <cuda_runtime.h>
#include <doctest/doctest.h>

#include <cmath>
#include <type_traits>
#include <vector>

#include <tessera/comm/tree.hpp>
#include <tessera/cuda/collectives/collectives.cuh>

#include "cuda/ranks.hpp"

namespace tessera {
namespace {

using collectives::Share;
using local::Call;
using local::Ends;

template <class T>
T made_up(int rank, index_t i) {
  if constexpr (std::is_integral_v<T>) return static_cast<T>(i * 7919 + rank) << 50;
  const float number = std::sin(static_cast<float>(rank * 101 + i * 3)) * (rank % 3 == 0 ? 1000.0f : 0.01f);
  return static_cast<T>(number);
}

template <class T>
bool same(const T& a, const T& b) {
  if constexpr (sizeof(T) == 2)
    return a.bits == b.bits;
  else
    return a == b;
}

// A vector per rank. Its first elements are not sent, so that the rest has odd addresses.
template <class T>
struct Vectors {
  Vectors(int ranks, index_t elements, index_t skip, bool empty = false) : skip(skip) {
    for (int r = 0; r < ranks; ++r) {
      values.emplace_back(static_cast<std::size_t>(skip + elements));
      for (index_t i = 0; i < elements && !empty; ++i) values.back()[skip + i] = made_up<T>(r, i);
      memory.emplace_back(values.back());
    }
  }
  T* at(int rank, index_t i = 0) { return memory[rank].out().data() + skip + i; }
  const T* before(int rank) const { return values[rank].data() + skip; }
  std::vector<T> now(int rank) const {
    const std::vector<T> all = memory[rank].get();
    return {all.begin() + skip, all.end()};
  }

  index_t skip;
  std::vector<std::vector<T>> values;
  std::vector<testing::DeviceMemory<T>> memory;
};

// The share of a device with these ranks, on the default stream.
Share share(const std::vector<int>& ranks, int device = 0, int devices = 1) {
  return {.stream = nullptr, .multiprocessors = 2, .ranks = ranks, .device = device, .devices = devices};
}

std::vector<int> all(int world) {
  std::vector<int> ranks;
  for (int r = 0; r < world; ++r) ranks.push_back(r);
  return ranks;
}

template <class In, class Out>
void check_reduce_scatter() {
  for (const int world : {1, 2, 3, 4, 7, 8, 13, collectives::most_ranks})
    for (const index_t part : {index_t{5}, index_t{64}, index_t{1000}})
      for (const index_t skip : {0, 1}) {
        const index_t elements = world * part - (part > 5 ? 70 : 0);
        if (elements <= 0 || (part == 1000 && world > 8)) continue;
        const float scale = skip == 0 ? 1 : 1 / static_cast<float>(3 * world);
        Vectors<In> in(world, elements, skip);
        Vectors<Out> out(world, part, skip, true);
        std::vector<Ends> ends;
        for (int r = 0; r < world; ++r) ends.push_back({in.at(r), out.at(r)});
        collectives::reduce_scatter<In, Out>({.elements = elements, .part = part, .scale = scale}, ends,
                                             share(all(world)));
        bool right = true;
        for (int r = 0; r < world; ++r) {
          const Slice own(elements, part, r);
          std::vector<Out> expected(part);
          sum_in_tree(
              world, own.size, [&](int leaf) { return in.before(leaf) + own.begin; }, expected.data(), scale);
          const std::vector<Out> sums = out.now(r);
          for (index_t i = 0; i < part; ++i) right &= same(sums[i], expected[i]);
        }
        CAPTURE(world);
        CAPTURE(part);
        CAPTURE(skip);
        CHECK(right);
      }
}

TEST_CASE("reduce-scatter has the bits of the host's tree, for all types, aligned or not") {
  check_reduce_scatter<float, float>();
  check_reduce_scatter<bfloat16, bfloat16>();
  check_reduce_scatter<bfloat16, float>();
  check_reduce_scatter<float16, float16>();
  check_reduce_scatter<float16, float>();
}

TEST_CASE("partial sums may have any address, as inputs and results may") {
  constexpr int world = 2;
  constexpr index_t part = 64, elements = world * part;
  for (const index_t skip : {0, 1}) {
    Vectors<float> in(world, elements, 0), out(world, part, 0, true), sums(world, part, skip, true);
    for (const bool last : {false, true}) {
      std::vector<Ends> ends;
      for (int r = 0; r < world; ++r) ends.push_back({in.at(r), out.at(r), sums.at(r)});
      const Carry carry{.stride = part, .before = last ? world : 0, .last = last};
      collectives::reduce_scatter<float, float>({.elements = elements, .part = part, .carry = carry}, ends,
                                                share(all(world)));
    }
    for (int r = 0; r < world; ++r) {
      std::vector<float> expected(part);
      sum_in_tree(
          2 * world, part, [&](int leaf) { return in.before(leaf % world) + r * part; }, expected.data());
      CHECK(out.now(r) == expected);
    }
  }
}

template <class T>
void check_all_reduce(int devices) {
  for (const int world : {1, 2, 5, 8})
    for (const index_t elements : {1, 7, 64, 1001})
      for (const index_t skip : {0, 1}) {
        Vectors<T> x(world, elements, skip);
        std::vector<Ends> ends;
        for (int r = 0; r < world; ++r) ends.push_back({x.at(r), x.at(r)});
        for (int d = 0; d < devices; ++d)
          collectives::all_reduce<T>({.elements = elements}, ends, share(all(world), d, devices));
        std::vector<T> expected(elements);
        sum_in_tree(
            world, elements, [&](int leaf) { return x.before(leaf); }, expected.data());
        bool right = true;
        for (int r = 0; r < world; ++r) right &= x.now(r) == expected;
        CHECK(right);
      }
}

TEST_CASE("all-reduce has the bits of the host's tree on every rank, with a part per device") {
  for (const int devices : {1, 3}) {
    check_all_reduce<float>(devices);
    check_all_reduce<double>(devices);
    check_all_reduce<std::uint64_t>(devices);
    check_all_reduce<std::int64_t>(devices);
  }
}

template <class T>
void check_copies() {
  for (const int world : {1, 2, 5})
    for (const index_t part : {1, 33, 640})
      for (const index_t skip : {0, 1}) {
        const index_t elements = world * part - part / 2;
        Vectors<T> slices(world, part, skip), vectors(world, elements, skip, true);
        Vectors<T> lines(world, world * part, skip), turned(world, world * part, skip, true);
        Vectors<T> same_for_all(world, elements, skip);
        std::vector<Ends> gather, turn, send;
        for (int r = 0; r < world; ++r) {
          gather.push_back({slices.at(r), vectors.at(r)});
          turn.push_back({lines.at(r), turned.at(r)});
          send.push_back({same_for_all.at(r), same_for_all.at(r)});
        }
        const int root = world - 1;
        collectives::all_gather<T>({.elements = elements, .part = part}, gather, share(all(world)));
        collectives::all_to_all<T>({.elements = world * part}, turn, share(all(world)));
        collectives::broadcast<T>({.elements = elements, .root = root}, send, share(all(world)));
        bool right = true;
        for (int r = 0; r < world; ++r) {
          const auto gathered = vectors.now(r), line = turned.now(r), sent = same_for_all.now(r);
          for (index_t i = 0; i < elements; ++i)
            right &= same(gathered[i], made_up<T>(static_cast<int>(i / part), i % part)) &&
                     same(sent[i], made_up<T>(root, i));
          for (index_t i = 0; i < world * part; ++i)
            right &= same(line[i], made_up<T>(static_cast<int>(i / part), r * part + i % part));
        }
        CHECK(right);
      }
}

TEST_CASE("all-gather, all-to-all and broadcast copy elements of any size, aligned or not") {
  check_copies<bfloat16>();
  check_copies<float>();
  check_copies<std::uint64_t>();
}

TEST_CASE("a device writes only what its own ranks receive") {
  const index_t part = 100;
  const std::vector<int> mine{1, 3};
  Vectors<float> in(4, 4 * part, 0), sums(4, part, 0, true), vectors(4, 4 * part, 0, true),
      turned(4, 4 * part, 0, true);
  Vectors<float> sent(4, part, 0);
  std::vector<Ends> reduce, gather, turn, send;
  for (int r = 0; r < 4; ++r) {
    reduce.push_back({in.at(r), sums.at(r)});
    gather.push_back({in.at(r), vectors.at(r)});
    turn.push_back({in.at(r), turned.at(r)});
    send.push_back({sent.at(r), sent.at(r)});
  }
  collectives::reduce_scatter<float, float>({.elements = 4 * part, .part = part}, reduce, share(mine));
  collectives::all_gather<float>({.elements = 4 * part, .part = part}, gather, share(mine));
  collectives::all_to_all<float>({.elements = 4 * part}, turn, share(mine));
  collectives::broadcast<float>({.elements = part, .root = 3}, send, share(mine));
  for (int r = 0; r < 4; ++r) {
    const bool is_mine = r % 2 != 0;
    CHECK((sums.now(r) != std::vector<float>(part)) == is_mine);
    CHECK((vectors.now(r) != std::vector<float>(4 * part)) == is_mine);
    CHECK((turned.now(r) != std::vector<float>(4 * part)) == is_mine);
    CHECK((sent.now(r) == sent.now(3)) == is_mine);
  }
}

// In the emulation this would take minutes.
#if defined(__CUDACC__)
TEST_CASE("a vector may be longer than 2^31 elements") {
  const index_t part = (index_t{1} << 30) + 64, elements = 2 * part;
  std::uint16_t* memory = nullptr;
  const auto bytes = static_cast<std::size_t>(2 * elements + 2 * part) * sizeof(std::uint16_t);
  if (cudaMalloc(&memory, bytes) != cudaSuccess) {
    static_cast<void>(cudaGetLastError());
    MESSAGE("skipped: there are no 13 GB of free device memory");
    return;
  }
  REQUIRE(cudaMemset(memory, 0, bytes) == cudaSuccess);
  const std::uint16_t last = 0x4040;  // 3 as a bfloat16
  auto* const a = reinterpret_cast<bfloat16*>(memory);
  bfloat16* const b = a + elements;
  bfloat16* const slices = b + elements;
  for (bfloat16* vector : {a, b})
    REQUIRE(cudaMemcpy(vector + elements - 1, &last, sizeof last, cudaMemcpyHostToDevice) == cudaSuccess);
  const std::vector<Ends> reduce{{a, slices}, {b, slices + part}};
  collectives::reduce_scatter<bfloat16, bfloat16>({.elements = elements, .part = part}, reduce, share({0, 1}));
  const std::vector<Ends> gather{{slices, a}, {slices + part, b}};
  collectives::all_gather<bfloat16>({.elements = elements, .part = part}, gather, share({0, 1}));
  for (const bfloat16* vector : {a, b}) {
    bfloat16 sum;
    REQUIRE(cudaMemcpy(&sum, vector + elements - 1, sizeof sum, cudaMemcpyDeviceToHost) == cudaSuccess);
    CHECK(static_cast<float>(sum) == 6.0f);
  }
  cudaFree(memory);
}
#endif

}  // namespace
}  // namespace tessera
