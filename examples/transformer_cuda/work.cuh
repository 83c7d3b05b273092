// The transformer on a device: one rank's activations, and the forward and backward of each unit. Everything is
// enqueued on the optimizer's compute stream, unless a comment says that it blocks.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>
#include <span>
#include <vector>

#include <tessera/cuda/runtime/error.cuh>
#include <tessera/cuda/exec/executor.cuh>
#include <tessera/engine/memory/views.hpp>

#include "common/cuda/blas.cuh"
#include "common/cuda/launch.cuh"
#include "common/cuda/layers.cuh"
#include "common/cuda/units.cuh"
#include "transformer/model.hpp"

namespace transformer::cuda {

using example::Matrix;
using namespace example::cuda;  // the layers

/// A text in device memory, and the positions at which its windows begin.
class Windows {
 public:
  /// Blocks.
  Windows(const tessera::Cuda& executor, std::span<const std::uint8_t> text)
      : executor_(executor), text_(executor_.allocate<std::uint8_t>(std::ssize(text))) {
    executor_.upload(text_.span(), text.data());
  }

  /// Blocks.
  void put_in(const std::vector<std::int64_t>& starts) {
    if (starts_.size() != std::ssize(starts)) starts_ = executor_.allocate<std::int64_t>(std::ssize(starts));
    executor_.upload(starts_.span(), starts.data());
  }

  const std::uint8_t* text() const { return text_.span().data(); }
  const std::int64_t* at(std::int64_t first) const { return starts_.span().data() + first; }

 private:
  tessera::Cuda executor_;
  tessera::CudaBuffer<std::uint8_t> text_;
  tessera::CudaBuffer<std::int64_t> starts_;
};

// Each byte is used to predict the next one.
static __global__ void load_kernel(const std::uint8_t* text, const std::int64_t* starts, int rows, int length,
                                   int* tokens, int* targets) {
  const std::int64_t r = this_thread();
  if (r >= rows) return;
  const std::uint8_t* const at = text + starts[r / length] + r % length;
  tokens[r] = at[0];
  targets[r] = at[1];
}

/// One rank's activations of one micro-batch: `sequences` windows of context bytes.
class Work {
 public:
  Work(const tessera::Cuda& executor, const Model& model, int sequences)
      : model_(model),
        rows_(sequences * model.shape.context),
        executor_(executor),
        blas_(executor_.stream()),
        tokens_(executor_.allocate<int>(rows_)),
        targets_(executor_.allocate<int>(rows_)),
        losses_(executor_.allocate<double>(rows_)),
        normal_(room(width())),
        logits_(room(vocabulary)),
        dstream_(room(width())),
        dnormal_(room(width())),
        dqkv_(room(3 * width())),
        dup_(room(4 * width())),
        dattended_(room(heads() * length())),
        moments_(room(2)) {
    for (int b = 0; b < model.shape.layers; ++b)
      activations_.push_back({room(width()), room(3 * width()), room(heads() * length()), room(width()), room(width()),
                              room(width()), room(4 * width()), room(4 * width())});
    for (int b = 0; b <= model.shape.layers; ++b) stream_.push_back(room(width()));
    for (Values* const of_unit : {&parameters_, &tied_parameters_, &sums_, &tied_sums_})
      *of_unit = executor_.allocate<float>(largest_unit(model.layout));
  }

  /// Loads windows from index `first` on.
  void load(const Windows& windows, std::int64_t first) {
    launch(stream(), rows_, load_kernel, windows.text(), windows.at(first), rows_, length(), tokens_.span().data(),
           targets_.span().data());
  }

  // --- forward

  template <class Stored>
  void embed(const tessera::UnitView<const Stored>& unit) {
    const Parameters<Stored> w(stream(), unit, data(parameters_));
    example::cuda::embed(stream(), tokens_.span().data(), length(), table(w[model_.bytes]),
                         {w[model_.positions], length(), width()}, rows(stream_[0]));
  }

  template <class Stored>
  void block(int b, const tessera::UnitView<const Stored>& unit) {
    const Model::Block& of = model_.blocks[b];
    const Parameters<Stored> w(stream(), unit, data(parameters_));
    Activations& a = activations_[b];
    layer_norm(stream(), rows(stream_[b]), w[of.norm.scale], w[of.norm.shift], rows(a.normal));
    linear(blas_, rows(a.normal), matrix(w[of.qkv.weight], 3, 1), w[of.qkv.bias], rows(a.qkv));
    attention(blas_, rows(a.qkv), length(), heads(), squares(a.attended), rows(a.mixed));
    linear(blas_, rows(a.mixed), matrix(w[of.projection.weight], 1, 1), w[of.projection.bias], rows(a.stream));
    add(stream_[b], a.stream);
    layer_norm(stream(), rows(a.stream), w[of.mlp_norm.scale], w[of.mlp_norm.shift], rows(a.mlp_normal));
    linear(blas_, rows(a.mlp_normal), matrix(w[of.up.weight], 4, 1), w[of.up.bias], rows(a.up));
    gelu(stream(), rows(a.up), rows(a.active));
    linear(blas_, rows(a.active), matrix(w[of.down.weight], 1, 4), w[of.down.bias], rows(stream_[b + 1]));
    add(a.stream, stream_[b + 1]);
  }

  template <class Stored>
  void head(const tessera::UnitView<const Stored>& unit, const tessera::UnitView<const Stored>& embedding) {
    const Parameters<Stored> w(stream(), unit, data(parameters_)), tied(stream(), embedding, data(tied_parameters_));
    layer_norm(stream(), rows(stream_.back()), w[model_.head_norm.scale], w[model_.head_norm.shift], rows(normal_));
    blas_.product(rows(normal_), table(tied[model_.bytes]).t(), rows(logits_));
  }

  /// The mean cross-entropy. Replaces the logits by their gradient, times the optimizer's loss scale.
  void loss(const float* scale, double* to) {
    cross_entropy(stream(), rows(logits_), targets_.span().data(), scale, losses_.span().data(), to);
  }

  // --- backward

  template <class Stored, class Gradient>
  void head_backward(const tessera::UnitView<const Stored>& unit, const tessera::UnitView<const Stored>& embedding,
                     const tessera::UnitView<Gradient>& unit_gradients,
                     const tessera::UnitView<Gradient>& embedding_gradients) {
    const Parameters<Stored> w(stream(), unit, data(parameters_)), tied(stream(), embedding, data(tied_parameters_));
    const Sums<Gradient> g(stream(), unit_gradients, data(sums_));
    const Sums<Gradient> tied_g(stream(), embedding_gradients, data(tied_sums_));
    blas_.product(rows(logits_).t(), rows(normal_), table(tied_g[model_.bytes]), 1);
    blas_.product(rows(logits_), table(tied[model_.bytes]), rows(dnormal_));
    tessera::cuda_check(cudaMemsetAsync(data(dstream_), 0, dstream_.span().size_bytes(), stream()), "clearing sums");
    layer_norm_backward(stream(), rows(stream_.back()), w[model_.head_norm.scale], rows(dnormal_), rows(dstream_),
                        g[model_.head_norm.scale], g[model_.head_norm.shift], data(moments_));
    g.finish();
    tied_g.finish();
  }

  template <class Stored, class Gradient>
  void block_backward(int b, const tessera::UnitView<const Stored>& unit,
                      const tessera::UnitView<Gradient>& gradients) {
    const Model::Block& of = model_.blocks[b];
    const Parameters<Stored> w(stream(), unit, data(parameters_));
    const Sums<Gradient> g(stream(), gradients, data(sums_));
    Activations& a = activations_[b];
    linear_backward(blas_, rows(a.active), rows(dstream_), matrix(g[of.down.weight], 1, 4), g[of.down.bias]);
    blas_.product(rows(dstream_), matrix(w[of.down.weight], 1, 4), rows(dup_));
    gelu_backward(stream(), rows(a.up), rows(dup_));
    linear_backward(blas_, rows(a.mlp_normal), rows(dup_), matrix(g[of.up.weight], 4, 1), g[of.up.bias]);
    blas_.product(rows(dup_), matrix(w[of.up.weight], 4, 1), rows(dnormal_));
    layer_norm_backward(stream(), rows(a.stream), w[of.mlp_norm.scale], rows(dnormal_), rows(dstream_),
                        g[of.mlp_norm.scale], g[of.mlp_norm.shift], data(moments_));
    linear_backward(blas_, rows(a.mixed), rows(dstream_), matrix(g[of.projection.weight], 1, 1), g[of.projection.bias]);
    blas_.product(rows(dstream_), matrix(w[of.projection.weight], 1, 1), rows(dnormal_));
    attention_backward(blas_, rows(a.qkv), length(), heads(), squares(a.attended), rows(dnormal_), rows(dqkv_),
                       squares(dattended_));
    linear_backward(blas_, rows(a.normal), rows(dqkv_), matrix(g[of.qkv.weight], 3, 1), g[of.qkv.bias]);
    blas_.product(rows(dqkv_), matrix(w[of.qkv.weight], 3, 1), rows(dnormal_));
    layer_norm_backward(stream(), rows(stream_[b]), w[of.norm.scale], rows(dnormal_), rows(dstream_), g[of.norm.scale],
                        g[of.norm.shift], data(moments_));
    g.finish();
  }

  template <class Gradient>
  void embed_backward(const tessera::UnitView<Gradient>& gradients) {
    const Sums<Gradient> g(stream(), gradients, data(sums_));
    example::cuda::embed_backward(stream(), tokens_.span().data(), length(), rows(dstream_), table(g[model_.bytes]),
                                  {g[model_.positions], length(), width()});
    g.finish();
  }

  // --- results

  const Model& model() const { return model_; }

  /// [rows, vocabulary]: forward's output for the byte after each row. Call it before loss(); valid until the next
  /// call. Blocks.
  std::span<const float> logits() {
    seen_.resize(logits_.span().size());
    executor_.download(std::span<const float>(logits_.span()), seen_.data());
    return seen_;
  }

 private:
  using Values = tessera::CudaBuffer<float>;
  struct Activations {
    Values normal, qkv, attended, mixed, stream, mlp_normal, up, active;
  };

  int width() const { return model_.shape.width; }
  int heads() const { return model_.shape.heads; }
  int length() const { return model_.shape.context; }

  cudaStream_t stream() const { return executor_.stream(); }
  Values room(int columns) { return executor_.allocate<float>(std::int64_t{rows_} * columns); }
  static float* data(Values& values) { return values.span().data(); }
  Matrix<float> rows(Values& values) const { return {data(values), rows_, static_cast<int>(values.size() / rows_)}; }
  Matrix<float> squares(Values& values) const { return {data(values), rows_ * heads(), length()}; }
  template <class U>
  Matrix<U> table(U* bytes) const {
    return {bytes, vocabulary, width()};
  }
  template <class U>
  Matrix<U> matrix(U* weight, int outputs, int inputs) const {  // in multiples of width
    return {weight, outputs * width(), inputs * width()};
  }
  void add(Values& from, Values& to) const { example::cuda::add(stream(), data(from), to.size(), data(to)); }

  const Model& model_;
  int rows_;
  tessera::Cuda executor_;
  Blas blas_;
  tessera::CudaBuffer<int> tokens_, targets_;
  tessera::CudaBuffer<double> losses_;
  std::vector<Activations> activations_;
  std::vector<Values> stream_;  // before each block, and after the last one
  Values normal_, logits_, dstream_, dnormal_, dqkv_, dup_, dattended_, moments_;
  Values parameters_, tied_parameters_, sums_, tied_sums_;  // of one unit
  std::vector<float> seen_;
};

}  // namespace transformer::cuda
