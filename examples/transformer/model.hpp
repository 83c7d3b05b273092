// A decoder-only transformer over bytes, written for Tessera: pre-norm blocks, learned positions, a head that shares
// the embedding's table. The units are embedding, blocks and head. A user would write this code, and may copy it. The
// computation is in Work: transformer/work.hpp has the host's.
#pragma once

#include <cmath>
#include <cstdint>
#include <initializer_list>
#include <string>
#include <vector>

#include <tessera/layout/layout.hpp>

#include "common/random.hpp"

namespace transformer {

inline constexpr int vocabulary = 256;

struct Shape {
  int layers, width, heads, context;
};

/// The tensors by name and shape, and their handles for the optimizer.
class Model {
 public:
  struct Norm {
    tessera::Tensor scale, shift;
  };
  struct Linear {
    tessera::Tensor weight, bias;
  };
  struct Block {
    tessera::Unit unit;
    Norm norm;
    Linear qkv, projection;
    Norm mlp_norm;
    Linear up, down;
  };

  explicit Model(Shape shape) : shape(shape) {
    const int width = shape.width;
    embedding = layout.add_unit("embedding");
    bytes = weight("bytes", {vocabulary, width}, width);
    positions = weight("positions", {shape.context, width}, width);
    // 2 * layers branches are added to the residual stream, so each is scaled down (Radford et al. 2019, 2.3).
    const double branches = 2.0 * shape.layers;
    for (int b = 0; b < shape.layers; ++b)
      blocks.push_back({.unit = layout.add_unit("block" + std::to_string(b)),
                        .norm = norm("norm"),
                        .qkv = linear("qkv", 3 * width, width),
                        .projection = linear("projection", width, width, branches),
                        .mlp_norm = norm("mlp_norm"),
                        .up = linear("up", 4 * width, width),
                        .down = linear("down", width, 4 * width, branches)});
    head = layout.add_unit("head");
    head_norm = norm("norm");
    layout.tie(head, embedding);
  }

  /// The initial weight i of tensor t: a function of seed, tensor and position, so the same on every rank.
  float initial(std::uint64_t seed, tessera::Tensor t, std::int64_t i) const {
    const First& first = first_[t.index];
    const auto tensor = static_cast<std::uint64_t>(t.index) + 1;
    return first.value + first.spread * example::uniform(seed, tensor, static_cast<std::uint64_t>(i));
  }

  Shape shape;
  tessera::Layout layout;
  tessera::Unit embedding, head;
  tessera::Tensor bytes, positions;
  std::vector<Block> blocks;
  Norm head_norm;

 private:
  struct First {
    float value, spread;  // uniform in value +- spread
  };

  tessera::Tensor add(const std::string& name, std::initializer_list<std::int64_t> sizes, First first) {
    first_.push_back(first);
    return layout.add_tensor(name, sizes);
  }
  tessera::Tensor weight(const std::string& name, std::initializer_list<std::int64_t> sizes, double inputs) {
    return add(name, sizes, {0, static_cast<float>(1 / std::sqrt(inputs))});
  }
  Norm norm(const std::string& name) {
    const auto scale = add(name + "_scale", {shape.width}, {1, 0});
    return {scale, add(name + "_shift", {shape.width}, {0, 0})};
  }
  Linear linear(const std::string& name, int outputs, int inputs, double branches = 1) {
    const auto matrix = weight(name + "_weight", {outputs, inputs}, inputs * branches);
    return {matrix, add(name + "_bias", {outputs}, {0, 0})};
  }

  std::vector<First> first_;
};

/// The forward pass of one micro-batch, with weights gathered unit by unit.
template <class Work, class Optimizer>
void forward(Work& work, Optimizer& optimizer) {
  const Model& model = work.model();
  work.embed(optimizer.gather(model.embedding));
  for (int b = 0; b < model.shape.layers; ++b) work.block(b, optimizer.gather(model.blocks[b].unit));
  const auto head = optimizer.gather(model.head);            // first the unit that computes,
  const auto embedding = optimizer.gather(model.embedding);  // then the unit to which it is tied
  work.head(head, embedding);
}

/// The backward pass: full buckets are reduced while it continues. Both uses of the tied table add to its gradients.
template <class Work, class Optimizer, class Pass>
void backward(Work& work, Optimizer& optimizer, Pass& pass) {
  const Model& model = work.model();
  {
    const auto head = optimizer.gather(model.head);
    const auto embedding = optimizer.gather(model.embedding);
    work.head_backward(head, embedding, pass.gradients(model.head), pass.gradients(model.embedding));
    pass.ready(model.head);
  }
  for (int b = model.shape.layers - 1; b >= 0; --b) {
    const tessera::Unit u = model.blocks[b].unit;
    work.block_backward(b, optimizer.gather(u), pass.gradients(u));
    pass.ready(u);
  }
  work.embed_backward(pass.gradients(model.embedding));
  pass.ready(model.embedding);
}

/// The pass of a rank without a micro-batch: the same gathers and ready calls as on other ranks, in the same order.
template <class Optimizer>
void idle_pass(const Model& model, Optimizer& optimizer) {
  static_cast<void>(optimizer.gather(model.embedding));
  for (const Model::Block& block : model.blocks) static_cast<void>(optimizer.gather(block.unit));
  const auto gather_head = [&] {
    const auto head = optimizer.gather(model.head);
    static_cast<void>(optimizer.gather(model.embedding));
  };
  gather_head();
  auto pass = optimizer.backward();
  gather_head();
  pass.ready(model.head);
  for (int b = model.shape.layers - 1; b >= 0; --b) {
    static_cast<void>(optimizer.gather(model.blocks[b].unit));
    pass.ready(model.blocks[b].unit);
  }
  pass.ready(model.embedding);
}

}  // namespace transformer
