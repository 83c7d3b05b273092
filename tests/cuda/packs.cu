// The fused update of one element has the same bits wherever it lies: in a pack, before or behind all packs, or in
// arrays that have none. (On a device: there the compiler fuses products and sums, and it could do so differently.)
#include <cuda_runtime.h>
#include <doctest/doctest.h>

#include <cmath>
#include <cstdint>
#include <type_traits>
#include <vector>

#include <tessera/cuda/for_each.cuh>
#include <tessera/cuda/stream.cuh>
#include <tessera/engine/update.hpp>
#include <tessera/precision/precision.hpp>
#include <tessera/rule/adamw.hpp>
#include <tessera/rule/nadam.hpp>

#include "array.hpp"

namespace tessera {
namespace {

constexpr index_t elements = 100;
constexpr index_t room = elements + 16;

// Remainders, and what is not there, are zero at first.
template <class T>
T number(index_t i) {
  if constexpr (std::is_constructible_v<T, float>)
    return T(std::sin(static_cast<float>(i) * 1.7f));
  else
    return {};
}

// Arrays of which the elements begin `at[k]` behind a 256-byte border.
template <class Rule, class Precision>
struct Arrays {
  using Kept = KeptWeight<typename Precision::Parameter, typename Precision::Master>;
  static constexpr bool has_master = requires(Kept kept) { kept.master; };
  static constexpr auto states = static_cast<index_t>(state_floats<Rule>);

  testing::Array<typename Precision::Reduction> gradient{room};
  testing::Array<typename Precision::Parameter> parameter{room};
  testing::Array<typename Precision::Master> master{room};
  testing::Array<typename Precision::State> state{states * 128};

  // The bits of all elements' parameters, masters and states after two steps.
  std::vector<std::uint64_t> after_steps(const index_t (&at)[3]) {
    fill(gradient, at[0], 0), fill(parameter, at[1], 1000), fill(state, 0, -1);
    fill(master, at[2], std::is_same_v<typename Precision::Master, float> ? 1000 : -1);
    const CudaStream stream;
    for (index_t step = 1; step <= 2; ++step) {
      FusedUpdate<Rule, Precision> update;
      update.gradient = gradient.data() + at[0];
      update.weight.parameter = parameter.data() + at[1];
      if constexpr (has_master) update.weight.master = master.data() + at[2];
      if constexpr (requires { update.weight.random; }) update.weight.random = StepRandom(7, step);
      for (index_t s = 0; s < states; ++s) update.state[s] = state.data() + s * 128 + at[2];
      update.scalars = update.rule.at(step);
      update.scale = 0.37f;
      device::for_each(elements, update, 1, stream.get());
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
  const auto aligned = arrays.after_steps({0, 0, 0});
  CHECK(arrays.after_steps({1, 1, 1}) == aligned);  // a head of all but one
  CHECK(arrays.after_steps({7, 7, 7}) == aligned);
  CHECK(arrays.after_steps({0, 1, 0}) == aligned);  // no packs
}

TEST_CASE_TEMPLATE("an element's bits do not depend on where it lies", Precision, Fp32, Bf16, Bf16Remainder,
                   Bf16Stochastic, Fp16) {
  check<AdamW, Precision>();
  check<NAdam, Precision>();
}

}  // namespace
}  // namespace tessera
