#include <tessera/engine/update.hpp>

#include <cstring>
#include <random>
#include <span>
#include <vector>

#include <doctest/doctest.h>

#include <tessera/core/bfloat16.hpp>
#include <tessera/core/digest.hpp>
#include <tessera/exec/vectorize.hpp>
#include <tessera/rule/adamw.hpp>

using namespace tessera;

namespace {

template <class T>
struct Arrays {
  std::vector<T> gradient, parameter;
  std::vector<float> weight, m, v;

  explicit Arrays(std::size_t n) : gradient(n), parameter(n), weight(n), m(n), v(n) {
    std::mt19937 random(5);
    std::normal_distribution<float> normal;
    for (std::size_t i = 0; i < n; ++i) {
      gradient[i] = T(normal(random));
      weight[i] = normal(random);
      m[i] = normal(random);
      v[i] = normal(random) * normal(random) + 9;
    }
  }
  FusedUpdate<AdamW, T, T> update() {
    const AdamW rule{};
    return {gradient.data(), weight.data(), parameter.data(), {m.data(), v.data()}, rule, rule.at(3), 0.3f};
  }
  bool operator==(const Arrays& other) const {
    const auto same = [](const auto& a, const auto& b) {
      return std::memcmp(a.data(), b.data(), a.size() * sizeof(a[0])) == 0;
    };
    return same(weight, other.weight) && same(m, other.m) && same(v, other.v) && same(parameter, other.parameter);
  }
};

template <class T>
void same_bits() {
  constexpr index_t n = 300;
  Arrays<T> expected(n);
  for (index_t i = 0; i < n; ++i) vectorize_as(Isa::baseline, i, i + 1, expected.update());
  for (const Isa isa : {Isa::baseline, Isa::avx2, Isa::avx512}) {
    if (isa > best_isa()) continue;
    for (index_t cut = 0; cut <= n; ++cut) {
      Arrays<T> arrays(n);
      vectorize_as(isa, 0, cut, arrays.update());
      vectorize_as(isa, cut, n, arrays.update());
      REQUIRE(arrays == expected);
    }
  }
}

}  // namespace

TEST_CASE("the update has the same bits in every vector width and wherever the range is cut") {
  same_bits<float>();
  same_bits<bfloat16>();
}

TEST_CASE("the bits are the same whatever the compiler") {
  // Written down once from g++; every compiler, flag and vector width has to find them again.
  constexpr index_t n = 1000;
  std::vector<float> weight(n), m(n), v(n);
  std::vector<bfloat16> gradient(n), parameter(n);
  for (index_t i = 0; i < n; ++i) {
    gradient[i] = bfloat16(static_cast<float>((i * 7919) % 2003 - 1001) / 977.0f);
    weight[i] = static_cast<float>((i * 104729) % 3001 - 1500) / 1013.0f;
  }
  const AdamW rule{};
  for (index_t step = 1; step <= 20; ++step)
    vectorize(0, n,
              FusedUpdate<AdamW, bfloat16, bfloat16>{
                  gradient.data(), weight.data(), parameter.data(), {m.data(), v.data()}, rule, rule.at(step), 0.3f});
  Digest digest;
  for (const auto* values : {&weight, &m, &v}) digest.add(std::as_bytes(std::span(*values)));
  digest.add(std::as_bytes(std::span(parameter)));
  CHECK(digest.value() == 8901946852518458601u);
}
