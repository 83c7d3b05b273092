#include <tessera/engine/kernels/update.hpp>

#include <cstring>
#include <limits>
#include <random>
#include <span>
#include <vector>

#include <doctest/doctest.h>

#include <tessera/core/bfloat16.hpp>
#include <tessera/core/digest.hpp>
#include <tessera/exec/vectorize.hpp>
#include <tessera/precision/precision.hpp>
#include <tessera/rule/adamw.hpp>

using namespace tessera;

namespace {

template <class Precision>
struct Arrays {
  using T = typename Precision::Parameter;
  std::vector<T> gradient, parameter;
  std::vector<float> weight, m, v;
  std::vector<Remainder> remainder;

  explicit Arrays(std::size_t n) : gradient(n), parameter(n), weight(n), m(n), v(n), remainder(n) {
    std::mt19937 random(5);
    std::normal_distribution<float> normal;
    for (std::size_t i = 0; i < n; ++i) {
      gradient[i] = T(normal(random));
      weight[i] = normal(random);
      parameter[i] = T(weight[i]);
      m[i] = normal(random);
      v[i] = normal(random) * normal(random) + 9;
    }
  }
  engine::FusedUpdate<AdamW, Precision> update() {
    const AdamW rule{};
    engine::FusedUpdate<AdamW, Precision> update{
        gradient.data(), {parameter.data()}, {m.data(), v.data()}, rule, rule.scalars(3), 0.3f};
    if constexpr (std::is_same_v<typename Precision::Master, float> && sizeof(T) == 2)
      update.weight.master = weight.data();
    if constexpr (std::is_same_v<Precision, Bf16Remainder>) update.weight.master = remainder.data();
    if constexpr (std::is_same_v<Precision, Bf16Stochastic>) update.weight.random = core::StepRandom(7, 3);
    return update;
  }
  bool operator==(const Arrays& other) const {
    const auto same = [](const auto& a, const auto& b) {
      return std::memcmp(a.data(), b.data(), a.size() * sizeof(a[0])) == 0;
    };
    return same(weight, other.weight) && same(m, other.m) && same(v, other.v) && same(parameter, other.parameter) &&
           same(remainder, other.remainder);
  }
};

template <class Precision>
void same_bits() {
  constexpr index_t n = 300;
  Arrays<Precision> expected(n);
  for (index_t i = 0; i < n; ++i) exec::vectorize_as(exec::Isa::baseline, i, i + 1, expected.update());
  for (const exec::Isa isa : {exec::Isa::baseline, exec::Isa::avx2, exec::Isa::avx512}) {
    if (isa > exec::best_isa()) continue;
    for (index_t cut = 0; cut <= n; ++cut) {
      Arrays<Precision> arrays(n);
      exec::vectorize_as(isa, 0, cut, arrays.update());
      exec::vectorize_as(isa, cut, n, arrays.update());
      REQUIRE(arrays == expected);
    }
  }
}

}  // namespace

TEST_CASE("the update has the same bits for every vector width and wherever the range is cut") {
  same_bits<Fp32>();
  same_bits<Bf16>();
  same_bits<Fp16>();
  same_bits<Bf16Remainder>();
}

TEST_CASE("stochastic rounding depends on seed, step and place only, not on where the range is cut") {
  constexpr index_t n = 300;
  Arrays<Bf16Stochastic> expected(n);
  exec::vectorize(0, n, expected.update());
  for (const index_t cut : {1, 64, 131}) {
    Arrays<Bf16Stochastic> arrays(n);
    auto update = arrays.update();
    exec::vectorize(0, cut, update);
    update.gradient += cut, update.weight.parameter += cut, update.weight.place = cut;
    for (auto& state : update.state) state += cut;
    exec::vectorize(0, n - cut, update);
    CHECK(arrays == expected);
  }
}

TEST_CASE("a remainder gives exactly the weights of a float master") {
  constexpr index_t n = 300;
  Arrays<Bf16> whole(n);
  Arrays<Bf16Remainder> split(n);
  for (index_t i = 0; i < n; ++i) {
    split.parameter[i] = Remainder::parameter(whole.weight[i]);
    split.remainder[i] = Remainder(whole.weight[i]);
  }
  for (int step = 0; step < 5; ++step) {
    exec::vectorize(0, n, whole.update());
    exec::vectorize(0, n, split.update());
  }
  for (index_t i = 0; i < n; ++i) CHECK(split.remainder[i].weight(split.parameter[i]) == whole.weight[i]);
}

TEST_CASE("the bits do not depend on the compiler") {
  // Recorded once with g++. Every compiler, flag and vector width must give the same.
  constexpr index_t n = 1000;
  std::vector<float> weight(n), m(n), v(n);
  std::vector<bfloat16> gradient(n), parameter(n);
  for (index_t i = 0; i < n; ++i) {
    gradient[i] = bfloat16(static_cast<float>((i * 7919) % 2003 - 1001) / 977.0f);
    weight[i] = static_cast<float>((i * 104729) % 3001 - 1500) / 1013.0f;
  }
  const AdamW rule{};
  for (index_t step = 1; step <= 20; ++step)
    exec::vectorize(0, n,
              engine::FusedUpdate<AdamW, Bf16>{
                  gradient.data(), {parameter.data(), weight.data()}, {m.data(), v.data()}, rule, rule.scalars(step), 0.3f});
  core::Digest digest;
  for (const auto* values : {&weight, &m, &v}) digest.add(std::as_bytes(std::span(*values)));
  digest.add(std::as_bytes(std::span(parameter)));
  CHECK(digest.value() == 8901946852518458601u);
}

namespace {

// The update for the elements from `begin` on.
template <class Update>
Update part(Update update, index_t begin) {
  update.gradient += begin;
  update.weight.parameter += begin;
  if constexpr (requires { update.weight.master; }) update.weight.master += begin;
  update.weight.place = begin;
  for (auto& state : update.state) state += begin;
  return update;
}

template <class Precision>
void packs_have_the_bits_of_elements() {
  constexpr int n = engine::FusedUpdate<AdamW, Precision>::pack_elements;
  static_assert(n * sizeof(typename Precision::State) == 16);  // the widest type
  constexpr index_t room = 4 * n;
  for (index_t begin = 0; begin < room; ++begin) {
    for (index_t end = begin; end <= room; ++end) {
      Arrays<Precision> expected(room), packed(room);
      const auto elements = expected.update();
      for (index_t i = begin; i < end; ++i) elements(i);
      const auto packs = part(packed.update(), begin);
      CHECK(packs.lead() == begin % n);
      for (index_t i = -packs.lead(); i < end - begin; i += n) packs.template pack<n>(i, end - begin);
      REQUIRE(packed == expected);
    }
  }
}

}  // namespace

TEST_CASE("packs give the bits of single elements and change no other elements") {
  packs_have_the_bits_of_elements<Fp32>();
  packs_have_the_bits_of_elements<Bf16>();
  packs_have_the_bits_of_elements<Fp16>();
  packs_have_the_bits_of_elements<Bf16Remainder>();
  packs_have_the_bits_of_elements<Bf16Stochastic>();
}

TEST_CASE("the position of an element in its pack depends on its place in the flat space only") {
  Arrays<Fp32> arrays(64);
  auto update = arrays.update();
  CHECK(update.lead() == 0);
  update.gradient += 1;
  CHECK(update.lead() == 0);
  update.weight.place = 1003;
  CHECK(update.lead() == 3);
}

TEST_CASE("arrays with different alignments are handled in the same packs") {
  Arrays<Fp32> expected(64), shifted(64);
  auto elements = expected.update(), packs = shifted.update();
  elements.gradient += 1, packs.gradient += 1;
  for (index_t i = 0; i < 62; ++i) elements(i);
  for (index_t i = 0; i < 62; i += 4) packs.pack<4>(i, 62);
  CHECK(shifted == expected);
}

namespace {

template <class Precision>
void finds_first_that_is_not_finite() {
  for (const index_t n : {1, 63, 64, 70, 1100})
    for (const index_t i : {index_t{0}, n / 2, n - 1}) {
      Arrays<Precision> arrays(n);
      for (const index_t k : {i, n - 1}) {
        arrays.weight[k] = -std::numeric_limits<float>::infinity();
        arrays.parameter[k] = typename Precision::Parameter(arrays.weight[k]);
      }
      std::uint64_t found = ~std::uint64_t{0};
      auto update = arrays.update();
      update.weight.place = 5000;
      update.first_non_finite = &found;
      exec::vectorize(0, n, update);
      CHECK(found == static_cast<std::uint64_t>(5000 + i));
    }
}

}  // namespace

TEST_CASE("the first updated parameter that is not finite is found, wherever it is in its range") {
  finds_first_that_is_not_finite<Fp32>();
  finds_first_that_is_not_finite<Bf16>();
  finds_first_that_is_not_finite<Fp16>();
}
