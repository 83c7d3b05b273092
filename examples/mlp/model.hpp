// 784-128-10: two units, and initial weights that are the same on every rank of any machine.
#pragma once

#include <cmath>
#include <cstdint>

#include <tessera/layout/layout.hpp>

#include "common/random.hpp"
#include "mlp/mnist.hpp"

namespace mlp {

inline constexpr int width = 128;

/// The tensors by name and shape, and their handles for the optimizer.
struct Model {
  tessera::Layout layout;
  tessera::Unit hidden = layout.add_unit("hidden");
  tessera::Tensor hidden_weight = layout.add_tensor("weight", {width, pixels});
  tessera::Tensor hidden_bias = layout.add_tensor("bias", {width});
  tessera::Unit output = layout.add_unit("output");
  tessera::Tensor output_weight = layout.add_tensor("weight", {classes, width});
  tessera::Tensor output_bias = layout.add_tensor("bias", {classes});

  /// Uniform within 1 / sqrt(inputs): a function of seed, tensor and position, so the same on every rank.
  float initial(std::uint64_t seed, tessera::Tensor t, std::int64_t i) const {
    const float inputs = layout.unit_of(t) == hidden ? pixels : width;
    return example::uniform(seed, static_cast<std::uint64_t>(t.index) + 1, static_cast<std::uint64_t>(i)) /
           std::sqrt(inputs);
  }
};

}  // namespace mlp
