// The fused update of one element has the same bits at any place of a part of the flat space and for any alignment of
// the arrays. (On a device the compiler may fuse operations, and could do so differently in each copy of the code.
// tests/cuda/one_copy.py checks the copies.)
#include <cuda_runtime.h>
#include <doctest/doctest.h>

#include <cmath>
#include <cstdint>
#include <type_traits>
#include <vector>

#include <tessera/cuda/exec/for_each.cuh>
#include <tessera/cuda/runtime/stream.cuh>
#include <tessera/engine/kernels/update.hpp>
#include <tessera/precision/precision.hpp>
#include <tessera/rule/adamw.hpp>
#include <tessera/rule/nadam.hpp>

#include "cuda/array.hpp"

namespace tessera {
namespace {

constexpr index_t elements = 100;
constexpr index_t room = elements + 16;

// Remainders and missing arrays are zero at first.
template <class T>
T number(index_t i) {
  if constexpr (std::is_constructible_v<T, float>)
    return T(std::sin(static_cast<float>(i) * 1.7f));
  else
    return {};
}

// Gradients, parameters and other arrays, whose element 0 is `at[k]` elements after a 256-byte boundary.
template <class Rule, class Precision>
struct Arrays {
  using Kept = precision::KeptWeight<typename Precision::Parameter, typename Precision::Master>;
  static constexpr bool has_master = requires(Kept kept) { kept.master; };
  static constexpr auto states = static_cast<index_t>(state_floats<Rule>);

  testing::Array<typename Precision::Reduction> gradient{room};
  testing::Array<typename Precision::Parameter> parameter{room};
  testing::Array<typename Precision::Master> master{room};
  testing::Array<typename Precision::State> state{states * 128};

  // The bits of the parameter, master weight and state of all elements.
  std::vector<std::uint64_t> after_steps(int steps, index_t begin, index_t end, const index_t (&at)[3]) {
    fill(gradient, at[0], 0), fill(parameter, at[1], 1000), fill(state, 0, -1);
    fill(master, at[2], std::is_same_v<typename Precision::Master, float> ? 1000 : -1);
    const CudaStream stream;
    for (index_t step = 1; step <= steps; ++step) {
      engine::FusedUpdate<Rule, Precision> update;
      update.gradient = gradient.data() + at[0] + begin;
      update.weight.parameter = parameter.data() + at[1] + begin;
      if constexpr (has_master) update.weight.master = master.data() + at[2] + begin;
      if constexpr (requires { update.weight.random; }) update.weight.random = core::StepRandom(7, step);
      update.weight.place = begin;
      for (index_t s = 0; s < states; ++s) update.state[s] = state.data() + s * 128 + at[2] + begin;
      update.scalars = update.rule.scalars(step);
      update.scale = 0.37f;
      device::for_each(end - begin, update, 1, stream.get());
    }
    REQUIRE(cudaStreamSynchronize(stream.get()) == cudaSuccess);
    std::vector<std::uint64_t> bits;
    append(bits, parameter, at[1]);
    if constexpr (has_master) append(bits, master, at[2]);
    for (index_t s = 0; s < states; ++s) append(bits, state, s * 128 + at[2]);
    return bits;
  }

  template <class T>
  static void fill(const testing::Array<T>& array, index_t at, index_t phase) {
    std::vector<T> values(array.span().size());
    for (index_t i = 0; i < elements && phase >= 0; ++i)
      values[static_cast<std::size_t>(at + i)] = number<T>(phase + i);
    array.set(values);
  }
  template <class T>
  static void append(std::vector<std::uint64_t>& bits, const testing::Array<T>& array, index_t at) {
    const auto values = array.get();
    using Bits = std::conditional_t<sizeof(T) == 4, std::uint32_t, std::uint16_t>;
    for (index_t i = 0; i < elements; ++i) bits.push_back(bits_as<Bits>(values[static_cast<std::size_t>(at + i)]));
  }
};

template <class Rule, class Precision>
void check() {
  Arrays<Rule, Precision> arrays;
  const auto before = arrays.after_steps(0, 0, elements, {0, 0, 0});
  const auto whole = arrays.after_steps(2, 0, elements, {0, 0, 0});
  const auto expected = [&](index_t begin, index_t end) {
    auto bits = before;
    for (std::size_t i = 0; i < bits.size(); ++i)
      if (const auto element = static_cast<index_t>(i) % elements; begin <= element && element < end)
        bits[i] = whole[i];
    return bits;
  };
  CHECK(whole != before);
  for (index_t begin = 0; begin <= 9; ++begin)
    for (const index_t end : {begin + 1, begin + 7, begin + 8, begin + 21, elements - 3, elements}) {
      CHECK(arrays.after_steps(2, begin, end, {0, 0, 0}) == expected(begin, end));
      CHECK(arrays.after_steps(2, begin, end, {1, 1, 1}) == expected(begin, end));
    }
  for (index_t by = 1; by < 8; ++by) {
    CHECK(arrays.after_steps(2, 0, elements, {by, by, by}) == whole);
    CHECK(arrays.after_steps(2, 0, elements, {by, 0, 0}) == whole);
    CHECK(arrays.after_steps(2, 0, elements, {0, by, 0}) == whole);
    CHECK(arrays.after_steps(2, 0, elements, {0, 0, by}) == whole);
  }
}

TEST_CASE_TEMPLATE("an element's bits do not depend on the other elements or on the alignment of arrays", Precision,
                   Fp32, Bf16, Bf16Remainder, Bf16Stochastic, Fp16) {
  check<AdamW, Precision>();
  check<NAdam, Precision>();
}

}  // namespace
}  // namespace tessera
