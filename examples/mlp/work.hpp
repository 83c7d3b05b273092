// 784-128-10 with ReLU and softmax cross-entropy on the host, written for Tessera: a forward and a backward for each
// unit. A user would write this code. Matrices are row-major; products use BLAS.
#pragma once

#include <cblas.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include <tessera/exec/host.hpp>
#include <tessera/layout/layout.hpp>

#include "mlp/mnist.hpp"
#include "mlp/model.hpp"

namespace mlp {

/// Digits, and the order in which they are used.
class Samples {
 public:
  Samples(const tessera::Host&, const Digits& digits) : digits_(digits) {}

  void put_in(std::vector<int> order) { order_ = std::move(order); }

  const Digits& digits() const { return digits_; }
  std::span<const int> at(std::int64_t first, int count) const { return std::span(order_).subspan(first, count); }

 private:
  const Digits& digits_;
  std::vector<int> order_;
};

/// A tensor as floats: the tensor itself if it is stored so, else converted.
inline const float* as_floats(std::span<const float> tensor, std::vector<float>&) { return tensor.data(); }
template <class T>
const float* as_floats(std::span<const T> tensor, std::vector<float>& scratch) {
  scratch.assign(tensor.begin(), tensor.end());
  return scratch.data();
}

/// Adds a gradient to the optimizer's, converted to its type.
template <class Gradient>
void add(const std::vector<float>& from, std::span<Gradient> to) {
  for (std::size_t i = 0; i < from.size(); ++i) to[i] = Gradient(static_cast<float>(to[i]) + from[i]);
}

/// One rank's activations of one micro-batch of n samples.
class Work {
 public:
  Work(const tessera::Host&, const Model& model, int n)
      : model_(model),
        n_(n),
        images_(n * pixels),
        labels_(n),
        hidden_(n * width),
        logits_(n * classes),
        hidden_gradient_(n * width) {}

  /// Loads n samples from index `first` on.
  void load(const Samples& samples, std::int64_t first) { load(samples.digits(), samples.at(first, n_)); }

  void load(const Digits& digits, std::span<const int> samples) {
    for (int s = 0; s < n_; ++s) {
      std::copy_n(digits.images.begin() + std::ptrdiff_t{samples[s]} * pixels, pixels,
                  images_.begin() + std::ptrdiff_t{s} * pixels);
      labels_[s] = digits.labels[samples[s]];
    }
  }

  template <class Weights>
  void forward(tessera::Unit u, const Weights& w) {
    if (u == model_.hidden) {
      layer(images_, pixels, w[model_.hidden_weight], w[model_.hidden_bias], hidden_, width);
      for (float& h : hidden_) h = std::max(h, 0.0f);
    } else {
      layer(hidden_, width, w[model_.output_weight], w[model_.output_bias], logits_, classes);
    }
  }

  /// The mean cross-entropy. Replaces the logits by their gradient, times the optimizer's loss scale.
  double loss(float scale = 1) {
    double sum = 0;
    for (int s = 0; s < n_; ++s) {
      float* const logit = logits_.data() + std::ptrdiff_t{s} * classes;
      const float largest = *std::max_element(logit, logit + classes);
      float total = 0;
      for (int c = 0; c < classes; ++c) total += std::exp(logit[c] - largest);
      sum += std::log(total) - (logit[labels_[s]] - largest);
      for (int c = 0; c < classes; ++c)
        logit[c] = (std::exp(logit[c] - largest) / total - static_cast<float>(c == labels_[s])) *
                   (scale / static_cast<float>(n_));
    }
    return sum / n_;
  }
  void loss(const float* scale, double* to) { *to = loss(*scale); }

  template <class Weights, class Gradients>
  void backward(tessera::Unit u, const Weights& w, const Gradients& g) {
    if (u == model_.output) {
      layer_backward(hidden_, width, logits_, classes, g[model_.output_weight], g[model_.output_bias]);
      const float* const weight = as_floats(w[model_.output_weight], scratch_);
      cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, n_, width, classes, 1, logits_.data(), classes, weight,
                  width, 0, hidden_gradient_.data(), width);
      for (std::size_t i = 0; i < hidden_.size(); ++i)
        if (hidden_[i] <= 0) hidden_gradient_[i] = 0;
    } else {
      layer_backward(images_, pixels, hidden_gradient_, width, g[model_.hidden_weight], g[model_.hidden_bias]);
    }
  }

  int correct() const {
    int count = 0;
    for (int s = 0; s < n_; ++s) {
      const float* const logit = logits_.data() + std::ptrdiff_t{s} * classes;
      count += std::max_element(logit, logit + classes) - logit == labels_[s];
    }
    return count;
  }

 private:
  // out [n, outputs] = in [n, inputs] weight^T + bias
  template <class T>
  void layer(const std::vector<float>& in, int inputs, std::span<const T> weight, std::span<const T> bias,
             std::vector<float>& out, int outputs) {
    for (int s = 0; s < n_; ++s)
      for (int o = 0; o < outputs; ++o) out[s * outputs + o] = static_cast<float>(bias[o]);
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, n_, outputs, inputs, 1, in.data(), inputs,
                as_floats(weight, scratch_), inputs, 1, out.data(), outputs);
  }

  // weight gradient [outputs, inputs] += out gradient^T in; bias gradient += column sums
  template <class T>
  void layer_backward(const std::vector<float>& in, int inputs, const std::vector<float>& out_gradient, int outputs,
                      std::span<T> weight_gradient, std::span<T> bias_gradient) {
    weight_scratch_.resize(std::size_t(outputs) * inputs);
    cblas_sgemm(CblasRowMajor, CblasTrans, CblasNoTrans, outputs, inputs, n_, 1, out_gradient.data(), outputs,
                in.data(), inputs, 0, weight_scratch_.data(), inputs);
    add(weight_scratch_, weight_gradient);
    bias_scratch_.assign(outputs, 0);
    for (int s = 0; s < n_; ++s)
      for (int o = 0; o < outputs; ++o) bias_scratch_[o] += out_gradient[s * outputs + o];
    add(bias_scratch_, bias_gradient);
  }

  const Model& model_;
  int n_;
  std::vector<float> images_;
  std::vector<int> labels_;
  std::vector<float> hidden_, logits_, hidden_gradient_;
  std::vector<float> scratch_, weight_scratch_, bias_scratch_;
};

}  // namespace mlp
