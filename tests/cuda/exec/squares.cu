#include <tessera/cuda/exec/squares.cuh>

#include <cuda_runtime.h>
#include <doctest/doctest.h>

#include <cmath>
#include <cstdint>
#include <limits>
#include <random>
#include <vector>

#include <tessera/core/bfloat16.hpp>
#include <tessera/core/float16.hpp>
#include <tessera/cuda/runtime/stream.cuh>

#include "cuda/array.hpp"

namespace tessera {
namespace {

using testing::Array;

// The documented order, in plain code.
template <class T>
double block_sum(const T* x, index_t n) {
  double lane[8] = {};
  for (index_t i = 0; i < n; ++i) {
    const auto wide = static_cast<double>(static_cast<float>(x[i]));
    lane[i % 8] += wide * wide;
  }
  return ((lane[0] + lane[4]) + (lane[2] + lane[6])) + ((lane[1] + lane[5]) + (lane[3] + lane[7]));
}

template <class T>
ExactSum plain(const std::vector<T>& x) {
  ExactSum sum;
  const auto n = static_cast<index_t>(x.size());
  for (index_t at = 0; at < n; at += block) {
    const double of_block = block_sum(x.data() + at, min(block, n - at));
    if (is_finite(of_block)) sum.add(of_block);
  }
  return sum;
}

constexpr int blocks = 3;  // few, so that some warps run several iterations

// Adds on the device to an existing sum.
template <class T>
void add(const std::vector<T>& x, index_t place, const Array<SquareSum>& sum) {
  const Array<T> there(x);
  const CudaStream stream;
  device::launch(device::add_squares_kernel<T>, blocks, device::squares_tuning.threads, stream.get(), there.data(),
                 static_cast<index_t>(x.size()), place, sum.data());
  REQUIRE(cudaStreamSynchronize(stream.get()) == cudaSuccess);
}

template <class T>
SquareSum on_device(const std::vector<T>& x, index_t place = 0) {
  const Array<SquareSum> sum(std::vector<SquareSum>(1));
  add(x, place, sum);
  SquareSum result = sum.get()[0];
  result.squares.normalise();
  return result;
}

void check_equal(ExactSum a, ExactSum b) {
  a.normalise(), b.normalise();
  for (int i = 0; i < ExactSum::limbs; ++i) CHECK(a.digit(i) == b.digit(i));
}

TEST_CASE_TEMPLATE("the sum has the host's bits for any length", T, float, bfloat16, float16) {
  std::mt19937 random(6);
  std::normal_distribution<float> normal;
  for (const index_t n : {1, 7, 63, 64, 65, 2047, 2048, 2049, 70001}) {
    std::vector<T> x;
    for (index_t i = 0; i < n; ++i) x.push_back(T(normal(random)));
    const SquareSum sum = on_device(x);
    check_equal(sum.squares, plain(x));
    CHECK(sum.first_non_finite == ~std::uint64_t{0});
  }
}

TEST_CASE("the sum is exact if sizes vary from block to block, from the smallest floats to the largest") {
  std::mt19937 random(7);
  std::vector<float> x;
  for (int i = 0; i < 40000; ++i) {
    const int exponent = i / 64 % 3 == 0 ? static_cast<int>(random() % 277) - 149 : i / 64 % 5;
    x.push_back(i / 64 % 7 == 0 ? 0.0f : std::ldexp(1.0f, exponent));
  }
  x[0] = std::numeric_limits<float>::denorm_min();
  check_equal(on_device(x).squares, plain(x));
  CHECK(on_device(std::vector<float>(5000)).squares.value() == 0);
}

TEST_CASE("the sums of several calls are added") {
  const std::vector<float> x(3000, 1.5f), y(100, std::numeric_limits<float>::max());
  const Array<SquareSum> sum(std::vector<SquareSum>(1));
  ExactSum expected = plain(x);
  expected.add(plain(x));
  expected.add(plain(y));
  add(x, 0, sum), add(y, 0, sum), add(x, 0, sum);
  check_equal(sum.get()[0].squares, expected);
}

TEST_CASE("blocks with a non-finite element are skipped, and the first such element of all calls is found") {
  for (const float bad : {std::numeric_limits<float>::quiet_NaN(), -std::numeric_limits<float>::infinity()}) {
    for (const index_t first : {0, 7, 63, 64, 2047, 2048, 30001, 49999}) {
      std::vector<float> x(50000, 0.25f);
      x[static_cast<std::size_t>(first)] = bad;
      x.back() = bad;
      const SquareSum sum = on_device(x, 1000);
      CHECK(sum.first_non_finite == static_cast<std::uint64_t>(1000 + first));
      check_equal(sum.squares, plain(x));
    }
    CHECK(on_device(std::vector<float>(50000, bad), 5).first_non_finite == 5);
    const Array<SquareSum> sum(std::vector<SquareSum>(1));
    for (const index_t place : {500, 300, 400}) add(std::vector<float>(1, bad), place, sum);
    CHECK(sum.get()[0].first_non_finite == 300);
  }
}

struct Number {
  TESSERA_HD float operator()(index_t i) const noexcept { return static_cast<float>((i * 7919) % 2003 - 1001); }
};

// Scaled by a number in device memory, if it is not zero.
struct ScaledNumber {
  const float* scale;

  struct Loaded {
    float scale;
    TESSERA_HD float operator()(index_t i) const noexcept { return Number{}(i)*scale; }
  };
  TESSERA_HD bool enabled() const noexcept { return *scale != 0; }
  TESSERA_HD Loaded bind() const noexcept { return {*scale}; }
};

template <class Body>
ExactSum of_body(index_t n, index_t lead, const Body& body) {
  const Array<ExactSum> sum(std::vector<ExactSum>(1));
  const CudaStream stream;
  device::launch(device::add_squares_of_kernel<Body>, blocks, device::squares_tuning.threads, stream.get(), n, lead,
                 body, sum.data());
  REQUIRE(cudaStreamSynchronize(stream.get()) == cudaSuccess);
  return sum.get()[0];
}

TEST_CASE("the squares of computed numbers equal those of the same numbers in memory, wherever a block begins") {
  for (const index_t lead : {0, 1, 63}) {
    for (const index_t n : {1, 63, 64, 65, 2048, 20000}) {
      std::vector<float> x(static_cast<std::size_t>(lead));
      for (index_t i = 0; i < n; ++i) x.push_back(Number{}(i));
      check_equal(of_body(n, lead, Number{}), plain(x));
    }
  }
}

TEST_CASE("a late-bound body is bound before its numbers are computed, and a disabled body adds nothing") {
  const Array<float> scale(1);
  CHECK(of_body(100, 0, ScaledNumber{scale.data()}).value() == 0);
  scale.set({2.0f});
  CHECK(of_body(100, 0, ScaledNumber{scale.data()}).value() == 4 * of_body(100, 0, Number{}).value());
}

}  // namespace
}  // namespace tessera
