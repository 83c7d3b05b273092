// What both translation units of the one-definition test compute, each with its own flags.
#pragma once

#include <bit>
#include <cstdint>
#include <vector>

#include <tessera/tessera.hpp>

namespace two_units {

// In an unnamed namespace, also the rule, so that each unit instantiates the library's loops with its own flags and the
// linker cannot merge them.
namespace {

struct Rule : tessera::AdamW {};

template <class Precision>
void update(tessera::exec::Isa isa, std::vector<std::uint32_t>& seen) {
  constexpr tessera::index_t n = 1001;
  using Parameter = typename Precision::Parameter;
  std::vector<Parameter> gradient(n), parameter(n);
  std::vector<float> weight(n), m(n), v(n);
  for (tessera::index_t i = 0; i < n; ++i) {
    gradient[i] = Parameter(static_cast<float>((i * 7919) % 2003 - 1001) / 977.0f);
    weight[i] = static_cast<float>((i * 104729) % 3001 - 1500) / 1013.0f;
    parameter[i] = Parameter(weight[i]);
  }
  const Rule rule{};
  for (tessera::index_t step = 1; step <= 10; ++step) {
    tessera::engine::FusedUpdate<Rule, Precision> update{.gradient = gradient.data(),
                                                 .weight = {parameter.data()},
                                                 .state = {m.data(), v.data()},
                                                 .rule = rule,
                                                 .scalars = rule.scalars(step),
                                                 .scale = 0.3f};
    if constexpr (sizeof(Parameter) == 2) update.weight.master = weight.data();
    tessera::exec::vectorize_as(isa, 0, n, update);
  }
  for (const auto* values : {&weight, &m, &v})
    for (const float value : *values) seen.push_back(std::bit_cast<std::uint32_t>(value));
  for (const Parameter value : parameter) seen.push_back(std::bit_cast<std::uint32_t>(static_cast<float>(value)));
}

// Code without a loop, such as a rule's scalars: a call that is not inlined by itself.
double scalar(double x, double y) {
  TESSERA_ROUND_EACH_OPERATION
  return x * x - y;
}

std::vector<std::uint32_t> bits(tessera::exec::Isa isa) {
  std::vector<std::uint32_t> seen;
  const volatile double root = 1 + 0x1p-27, square = 1 + 0x1p-26;
  const double nothing = tessera::exec::run_scalar([&] { return scalar(root, square); });  // 2^-54 if fused
  seen.push_back(nothing == 0);
  update<tessera::Fp32>(isa, seen);
  update<tessera::Bf16>(isa, seen);
  return seen;
}

}  // namespace

}  // namespace two_units
