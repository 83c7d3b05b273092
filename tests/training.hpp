// A training run with generated gradients, for tests that compare results.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include <tessera/tessera.hpp>

namespace tessera::testing {

/// A pseudo-random number that depends on the arguments only.
inline std::uint64_t hash(std::uint64_t a, std::uint64_t b = 0, std::uint64_t c = 0, std::uint64_t d = 0) {
  std::uint64_t x = 0x9e3779b97f4a7c15u;
  for (const std::uint64_t word : {a, b, c, d}) {
    x += word + 0x9e3779b97f4a7c15u;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    x ^= x >> 31;
  }
  return x;
}

/// A pseudo-random number in [-1, 1), with 24 bits.
inline float uniform(std::uint64_t a, std::uint64_t b = 0, std::uint64_t c = 0, std::uint64_t d = 0) {
  return static_cast<float>(static_cast<std::int64_t>(hash(a, b, c, d) >> 40)) / 8388608.0f - 1.0f;
}

/// The gradient of element i of a tensor in micro-batch `leaf` of a step.
using LeafGradient = std::function<float(index_t step, index_t leaf, Tensor tensor, index_t i)>;

inline float made_up_gradient(index_t step, index_t leaf, Tensor tensor, index_t i) {
  return uniform(static_cast<std::uint64_t>(step), static_cast<std::uint64_t>(leaf),
                 static_cast<std::uint64_t>(tensor.index), static_cast<std::uint64_t>(i));
}

inline float made_up_weight(Tensor tensor, index_t i) {
  return uniform(77, static_cast<std::uint64_t>(tensor.index), static_cast<std::uint64_t>(i));
}

/// The result of a run, the same on every rank.
struct Outcome {
  std::vector<float> parameters;  // every tensor's elements in layout order, as float
  std::vector<double> norms;
  std::vector<bool> applied;
  friend bool operator==(const Outcome&, const Outcome&) = default;
};

/// All current parameters, through gather.
template <class Optimizer>
std::vector<float> parameters_of(Optimizer& optimizer) {
  std::vector<float> all;
  for (const Unit u : optimizer.layout().forward()) {
    const auto weights = optimizer.gather(u);
    for (const Tensor t : optimizer.layout().tensors(u))
      for (const auto value : weights[t]) all.push_back(static_cast<float>(value));
  }
  return all;
}

/// One pass of the training loop (docs/design.md, section 1): micro-batch `leaf`, or none if this rank has none.
template <class Optimizer>
void run_pass(Optimizer& optimizer, index_t step, index_t leaf, const LeafGradient& gradient = made_up_gradient) {
  const Layout& layout = optimizer.layout();
  for (const Unit u : layout.forward()) static_cast<void>(optimizer.gather(u));
  const bool has_micro_batch = optimizer.has_micro_batch();
  auto pass = optimizer.backward();
  for (const Unit u : layout.backward()) {
    const auto weights = optimizer.gather(u);
    if (!has_micro_batch) {
      pass.ready(u);
      continue;
    }
    const auto gradients = pass.gradients(u);
    for (const Tensor t : layout.tensors(u)) {
      if (layout.frozen(t)) continue;
      index_t i = 0;
      for (auto& element : gradients[t])
        element = typename Optimizer::Gradient(static_cast<float>(element) +
                                               gradient(step, leaf, t, i++) * optimizer.loss_scale());
    }
    pass.ready(u);
  }
}

/// `steps` steps of `passes` passes. Micro-batch j belongs to rank j mod world, pass j / world. micro_batches: of each
/// step over all ranks; 0: one per rank and pass.
template <class Optimizer>
Outcome run_steps(Optimizer& optimizer, int rank, int world, int steps, int passes,
                  const LeafGradient& gradient = made_up_gradient, index_t micro_batches = 0) {
  Outcome outcome;
  for (int step = 0; step < steps; ++step) {
    if (micro_batches > 0) optimizer.begin_step(micro_batches);
    for (int k = 0; k < passes; ++k) run_pass(optimizer, step, index_t{k} * world + rank, gradient);
    const auto report = optimizer.step();
    outcome.norms.push_back(report.gradient_norm());
    outcome.applied.push_back(report.applied());
  }
  outcome.parameters = parameters_of(optimizer);
  return outcome;
}

/// A small model whose sizes have no common divisors with blocks, ranks or buckets.
inline Layout ragged_layout() {
  Layout layout;
  layout.add_unit("embedding");
  layout.add_tensor("table", {13, 7});
  layout.add_unit("body");
  layout.add_tensor("weight", {37, 11});
  layout.add_tensor("bias", {37}, {.group = 1});
  layout.add_tensor("running", {9}, {.frozen = true});
  layout.add_tensor("scale", {3});
  layout.add_unit("nothing");
  layout.add_unit("head");
  layout.add_tensor("weight", {5, 131});
  layout.add_tensor("empty", {0});
  layout.add_tensor("bias", {5}, {.group = 1});
  return layout;
}

/// A model whose sizes are divisible by every world size up to 6, and 12, in whole blocks.
inline Layout even_layers(int units) {
  Layout layout;
  for (int u = 0; u < units; ++u) {
    layout.add_unit("u" + std::to_string(u));
    layout.add_tensor("w", {64 * 12 * 5});
  }
  return layout;
}

}  // namespace tessera::testing
