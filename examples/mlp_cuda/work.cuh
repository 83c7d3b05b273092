// 784-128-10 with ReLU and softmax cross-entropy on a device, written for Tessera: a forward and a backward for each
// unit. Everything is enqueued on the optimizer's compute stream, unless a comment says that it blocks.
#pragma once

#include <cuda_runtime.h>

#include <algorithm>
#include <cstdint>
#include <span>
#include <vector>

#include <tessera/cuda/exec/executor.cuh>
#include <tessera/engine/memory/views.hpp>

#include "common/cuda/blas.cuh"
#include "common/cuda/launch.cuh"
#include "common/cuda/layers.cuh"
#include "common/cuda/units.cuh"
#include "mlp/mnist.hpp"
#include "mlp/model.hpp"

namespace mlp::cuda {

using example::Matrix;
using namespace example::cuda;  // the layers

/// Digits in device memory, and the order in which they are used.
class Samples {
 public:
  /// Blocks.
  Samples(const tessera::Cuda& executor, const Digits& digits)
      : executor_(executor),
        images_(executor_.allocate<float>(std::ssize(digits.images))),
        labels_(executor_.allocate<int>(digits.size())),
        order_(executor_.allocate<int>(digits.size())) {
    executor_.upload(images_.span(), digits.images.data());
    executor_.upload(labels_.span(), digits.labels.data());
  }

  /// Blocks.
  void put_in(const std::vector<int>& order) { executor_.upload(order_.span(), order.data()); }

  const float* images() const { return images_.span().data(); }
  const int* labels() const { return labels_.span().data(); }
  const int* at(std::int64_t first) const { return order_.span().data() + first; }

 private:
  tessera::Cuda executor_;
  tessera::CudaBuffer<float> images_;
  tessera::CudaBuffer<int> labels_, order_;
};

static __global__ void load_kernel(const float* all_images, const int* all_labels, const int* samples, int n,
                                   float* images, int* labels) {
  const std::int64_t i = this_thread();
  if (i >= static_cast<std::int64_t>(n) * pixels) return;
  const int s = static_cast<int>(i / pixels), p = static_cast<int>(i % pixels);
  images[i] = all_images[static_cast<std::int64_t>(samples[s]) * pixels + p];
  if (p == 0) labels[s] = all_labels[samples[s]];
}

/// One rank's activations of one micro-batch of n samples.
class Work {
 public:
  Work(const tessera::Cuda& executor, const Model& model, int n)
      : model_(model),
        n_(n),
        executor_(executor),
        blas_(executor_.stream()),
        images_(room(n * pixels)),
        hidden_(room(n * width)),
        logits_(room(n * classes)),
        hidden_gradient_(room(n * width)),
        parameters_(room(largest_unit(model.layout))),
        sums_(room(largest_unit(model.layout))),
        labels_(executor_.allocate<int>(n)),
        losses_(executor_.allocate<double>(n)) {}

  void load(const Samples& samples, std::int64_t first) {
    launch(stream(), std::int64_t{n_} * pixels, load_kernel, samples.images(), samples.labels(), samples.at(first), n_,
           images_.span().data(), labels_.span().data());
  }

  template <class Stored>
  void forward(tessera::Unit u, const tessera::UnitView<const Stored>& unit) {
    const Parameters<Stored> w(stream(), unit, parameters_.span().data());
    if (u == model_.hidden) {
      linear(blas_, images(), {w[model_.hidden_weight], width, pixels}, w[model_.hidden_bias], hidden());
      relu(stream(), hidden());
    } else {
      linear(blas_, hidden(), {w[model_.output_weight], classes, width}, w[model_.output_bias], logits());
    }
  }

  /// The mean cross-entropy. Replaces the logits by their gradient, times the optimizer's loss scale.
  void loss(const float* scale, double* to) {
    cross_entropy(stream(), logits(), labels_.span().data(), scale, losses_.span().data(), to);
  }

  template <class Stored, class Gradient>
  void backward(tessera::Unit u, const tessera::UnitView<const Stored>& unit,
                const tessera::UnitView<Gradient>& gradients) {
    const Sums<Gradient> g(stream(), gradients, sums_.span().data());
    if (u == model_.output) {
      const Parameters<Stored> w(stream(), unit, parameters_.span().data());
      linear_backward(blas_, hidden(), logits(), {g[model_.output_weight], classes, width}, g[model_.output_bias]);
      blas_.product(logits(), {w[model_.output_weight], classes, width}, hidden_gradient());
      relu_backward(stream(), hidden(), hidden_gradient());
    } else {
      linear_backward(blas_, images(), hidden_gradient(), {g[model_.hidden_weight], width, pixels},
                      g[model_.hidden_bias]);
    }
    g.finish();
  }

  /// Blocks.
  int correct() {
    std::vector<float> logits(logits_.span().size());
    std::vector<int> labels(n_);
    executor_.download(std::span<const float>(logits_.span()), logits.data());
    executor_.download(std::span<const int>(labels_.span()), labels.data());
    int count = 0;
    for (int s = 0; s < n_; ++s) {
      const auto logit = logits.begin() + std::ptrdiff_t{s} * classes;
      count += std::max_element(logit, logit + classes) - logit == labels[s];
    }
    return count;
  }

 private:
  using Values = tessera::CudaBuffer<float>;

  cudaStream_t stream() const { return executor_.stream(); }
  Values room(std::int64_t n) { return executor_.allocate<float>(n); }
  Matrix<float> rows(Values& values, int columns) { return {values.span().data(), n_, columns}; }
  Matrix<float> images() { return rows(images_, pixels); }
  Matrix<float> hidden() { return rows(hidden_, width); }
  Matrix<float> logits() { return rows(logits_, classes); }
  Matrix<float> hidden_gradient() { return rows(hidden_gradient_, width); }

  const Model& model_;
  int n_;
  tessera::Cuda executor_;
  Blas blas_;
  Values images_, hidden_, logits_, hidden_gradient_;
  Values parameters_, sums_;  // of one unit
  tessera::CudaBuffer<int> labels_;
  tessera::CudaBuffer<double> losses_;
};

}  // namespace mlp::cuda
