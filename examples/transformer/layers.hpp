// The layers of a transformer, each with a forward and a backward. A matrix has one row per token; products use BLAS.
// A backward writes the gradient of its input and adds to those of its weights. T is float, or double for checks.
#pragma once

#include <cblas.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <type_traits>

#include "common/matrix.hpp"

namespace transformer {

using example::In;
using example::Matrix;

inline void gemm(CBLAS_TRANSPOSE ta, CBLAS_TRANSPOSE tb, int m, int n, int k, float alpha, const float* a, int lda,
                 const float* b, int ldb, float beta, float* c, int ldc) {
  cblas_sgemm(CblasRowMajor, ta, tb, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);
}
inline void gemm(CBLAS_TRANSPOSE ta, CBLAS_TRANSPOSE tb, int m, int n, int k, double alpha, const double* a, int lda,
                 const double* b, int ldb, double beta, double* c, int ldc) {
  cblas_dgemm(CblasRowMajor, ta, tb, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);
}

/// c = alpha a b + beta c
template <class T>
void product(In<T> a, In<T> b, Matrix<T> c, std::type_identity_t<T> beta = 0, std::type_identity_t<T> alpha = 1) {
  gemm(a.transposed ? CblasTrans : CblasNoTrans, b.transposed ? CblasTrans : CblasNoTrans, c.rows, c.columns,
       a.transposed ? a.rows : a.columns, alpha, a.data, a.stride, b.data, b.stride, beta, c.data, c.stride);
}

// --- linear: y = x weight^T + bias; weight [outputs, inputs]

template <class T>
void linear(In<T> x, In<T> weight, const T* bias, Matrix<T> y) {
  for (int r = 0; r < y.rows; ++r) std::copy_n(bias, y.columns, y.row(r));
  product(x, weight.t(), y, 1);
}

template <class T>
void linear_backward(In<T> x, In<T> weight, In<T> dy, Matrix<T> dx, Matrix<T> dweight, T* dbias) {
  product(dy.t(), x, dweight, 1);
  for (int r = 0; r < dy.rows; ++r)
    for (int c = 0; c < dy.columns; ++c) dbias[c] += dy.row(r)[c];
  product(dy, weight, dx);
}

// --- layer norm: y = scale (x - mean) / sqrt(variance + epsilon) + shift, per row (Ba et al. 2016)

template <class T>
struct Moments {
  T mean, inverse_deviation;

  Moments(const T* x, int n) {
    T sum = 0, squares = 0;
    for (int i = 0; i < n; ++i) sum += x[i];
    mean = sum / T(n);
    for (int i = 0; i < n; ++i) squares += (x[i] - mean) * (x[i] - mean);
    inverse_deviation = 1 / std::sqrt(squares / T(n) + T(1e-5));
  }
};

template <class T>
void layer_norm(In<T> x, const T* scale, const T* shift, Matrix<T> y) {
  for (int r = 0; r < x.rows; ++r) {
    const Moments<T> of(x.row(r), x.columns);
    for (int c = 0; c < x.columns; ++c)
      y.row(r)[c] = scale[c] * ((x.row(r)[c] - of.mean) * of.inverse_deviation) + shift[c];
  }
}

/// Adds to dx, since the norm is in a branch beside the residual stream.
template <class T>
void layer_norm_backward(In<T> x, const T* scale, In<T> dy, Matrix<T> dx, T* dscale, T* dshift) {
  const T n = T(x.columns);
  for (int r = 0; r < x.rows; ++r) {
    const Moments<T> of(x.row(r), x.columns);
    const auto normal = [&](int c) { return (x.row(r)[c] - of.mean) * of.inverse_deviation; };
    T sum = 0, along = 0;  // sums of the gradient of the normalized row, and of it times that row
    for (int c = 0; c < x.columns; ++c) {
      const T d = dy.row(r)[c];
      dscale[c] += d * normal(c);
      dshift[c] += d;
      sum += d * scale[c];
      along += d * scale[c] * normal(c);
    }
    for (int c = 0; c < x.columns; ++c)
      dx.row(r)[c] += of.inverse_deviation * (dy.row(r)[c] * scale[c] - sum / n - normal(c) * (along / n));
  }
}

// --- GELU, tanh form: y = x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))) / 2 (Hendrycks and Gimpel 2016)

/// Replaces x by the derivative, which is all that backward needs.
template <class T>
void gelu(Matrix<T> x, Matrix<T> y) {
  const T a = T(0.7978845608028654), b = T(0.044715);
  for (int r = 0; r < x.rows; ++r)
    for (int c = 0; c < x.columns; ++c) {
      const T v = x.row(r)[c];
      const T tanh = 1 - 2 / (std::exp(2 * a * (v + b * v * v * v)) + 1);  // std::tanh takes three times as long
      y.row(r)[c] = v * (1 + tanh) / 2;
      x.row(r)[c] = (1 + tanh) / 2 + v * (1 - tanh * tanh) / 2 * a * (1 + 3 * b * v * v);
    }
}

/// In place: replaces dy by dx.
template <class T>
void gelu_backward(In<T> derivative, Matrix<T> dy) {
  for (int r = 0; r < dy.rows; ++r)
    for (int c = 0; c < dy.columns; ++c) dy.row(r)[c] *= derivative.row(r)[c];
}

// --- causal self-attention over sequences of `length` rows, in `heads` parts of the columns (Vaswani et al. 2017)
//
//     qkv [rows, 3 width]    | queries | keys | values |, each | head 0 | head 1 | ...
//     p   [rows * heads, length]: one square per sequence and head; row i has the weights of tokens 0 .. i for token i

/// One head of one sequence, in a matrix that consists of `parts` matrices of equal width side by side.
template <class T>
Matrix<T> head_of(Matrix<T> x, int length, int heads, int s, int h, int parts = 1, int part = 0) {
  const int width = x.columns / parts;
  return {x.row(s * length) + part * width + h * (width / heads), length, width / heads, x.stride};
}

/// y [rows, width]; writes p, for backward.
template <class T>
void attention(In<T> qkv, int length, int heads, Matrix<T> p, Matrix<T> y) {
  for (int s = 0; s < qkv.rows / length; ++s)
    for (int h = 0; h < heads; ++h) {
      const auto q = head_of(qkv, length, heads, s, h, 3, 0), k = head_of(qkv, length, heads, s, h, 3, 1),
                 v = head_of(qkv, length, heads, s, h, 3, 2);
      const Matrix<T> weights(p.row((s * heads + h) * length), length, length);
      product(q, k.t(), weights, 0, 1 / std::sqrt(T(q.columns)));
      for (int i = 0; i < length; ++i) {
        T* const row = weights.row(i);
        const T largest = *std::max_element(row, row + i + 1);
        T total = 0;
        for (int j = 0; j <= i; ++j) total += row[j] = std::exp(row[j] - largest);
        for (int j = 0; j <= i; ++j) row[j] *= 1 / total;
        std::fill(row + i + 1, row + length, T(0));
      }
      product(weights, v, head_of(y, length, heads, s, h));
    }
}

/// scratch: [length, length].
template <class T>
void attention_backward(In<T> qkv, int length, int heads, In<T> p, In<T> dy, Matrix<T> dqkv, Matrix<T> scratch) {
  for (int s = 0; s < qkv.rows / length; ++s)
    for (int h = 0; h < heads; ++h) {
      const auto q = head_of(qkv, length, heads, s, h, 3, 0), k = head_of(qkv, length, heads, s, h, 3, 1),
                 v = head_of(qkv, length, heads, s, h, 3, 2);
      const auto d = head_of(dy, length, heads, s, h);
      const Matrix<const T> weights(p.row((s * heads + h) * length), length, length);
      product(weights.t(), d, head_of(dqkv, length, heads, s, h, 3, 2));
      product(d, v.t(), scratch);
      for (int i = 0; i < length; ++i) {  // gradient of the softmax: dscore = weight (dweight - mean of dweight)
        T* const row = scratch.row(i);
        T mean = 0;
        for (int j = 0; j <= i; ++j) mean += weights.row(i)[j] * row[j];
        for (int j = 0; j < length; ++j) row[j] = weights.row(i)[j] * (row[j] - mean);
      }
      const T scale = 1 / std::sqrt(T(q.columns));
      product(scratch, k, head_of(dqkv, length, heads, s, h, 3, 0), 0, scale);
      product(scratch.t(), q, head_of(dqkv, length, heads, s, h, 3, 1), 0, scale);
    }
}

// --- embedding: y[r] = bytes[token of r] + positions[place of r in its sequence]

template <class T>
void embed(const std::uint8_t* tokens, int length, In<T> bytes, In<T> positions, Matrix<T> y) {
  for (int r = 0; r < y.rows; ++r)
    for (int c = 0; c < y.columns; ++c) y.row(r)[c] = bytes.row(tokens[r])[c] + positions.row(r % length)[c];
}

template <class T>
void embed_backward(const std::uint8_t* tokens, int length, In<T> dy, Matrix<T> dbytes, Matrix<T> dpositions) {
  for (int r = 0; r < dy.rows; ++r)
    for (int c = 0; c < dy.columns; ++c) {
      dbytes.row(tokens[r])[c] += dy.row(r)[c];
      dpositions.row(r % length)[c] += dy.row(r)[c];
    }
}

// --- softmax and cross-entropy, in nats

/// -log of the probability that `logits` give to `target`.
template <class T>
double cross_entropy(const T* logits, int n, int target) {
  const T largest = *std::max_element(logits, logits + n);
  T total = 0;
  for (int c = 0; c < n; ++c) total += std::exp(logits[c] - largest);
  return static_cast<double>(std::log(total) - (logits[target] - largest));
}

/// As above; also replaces the logits by their gradient, times scale.
template <class T>
double cross_entropy_backward(T* logits, int n, int target, std::type_identity_t<T> scale) {
  const T largest = *std::max_element(logits, logits + n);
  const T at_target = logits[target] - largest;
  T total = 0;
  for (int c = 0; c < n; ++c) total += logits[c] = std::exp(logits[c] - largest);
  for (int c = 0; c < n; ++c) logits[c] = (logits[c] / total - T(c == target)) * scale;
  return static_cast<double>(std::log(total) - at_target);
}

}  // namespace transformer
