// Layers on a device, each with a forward and a backward, like those of transformer/layers.hpp for the host. All
// enqueue on the stream and never block. No sum depends on the order of threads: the same run gives the same bits. A
// backward writes the gradient of its input and adds to those of its weights.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "common/cuda/blas.cuh"
#include "common/matrix.hpp"

namespace example::cuda {

using In = Matrix<const float>;

// --- values; T is float, tessera::bfloat16 or tessera::float16

template <class T>
void to_floats(cudaStream_t stream, const T* from, std::int64_t n, float* to);

/// to += from, rounded once.
template <class T>
void add(cudaStream_t stream, const float* from, std::int64_t n, T* to);

// --- linear: y = x weight^T + bias; weight [outputs, inputs]

void linear(const Blas& blas, In x, In weight, const float* bias, Matrix<float> y);
void linear_backward(const Blas& blas, In x, In dy, Matrix<float> dweight, float* dbias);  // without the gradient of x

// --- activations, in place

void relu(cudaStream_t stream, Matrix<float> x);
/// y: the output of relu.
void relu_backward(cudaStream_t stream, In y, Matrix<float> dy);

/// The tanh form. Replaces x by the derivative, which is all that backward needs.
void gelu(cudaStream_t stream, Matrix<float> x, Matrix<float> y);
void gelu_backward(cudaStream_t stream, In derivative, Matrix<float> dy);

// --- layer norm

void layer_norm(cudaStream_t stream, In x, const float* scale, const float* shift, Matrix<float> y);
/// Adds to dx. moments: workspace of [rows, 2].
void layer_norm_backward(cudaStream_t stream, In x, const float* scale, In dy, Matrix<float> dx, float* dscale,
                         float* dshift, float* moments);

// --- causal self-attention: the layout of qkv and p is that of transformer/layers.hpp

void attention(const Blas& blas, In qkv, int length, int heads, Matrix<float> p, Matrix<float> y);
/// dp: workspace with the shape of p.
void attention_backward(const Blas& blas, In qkv, int length, int heads, In p, In dy, Matrix<float> dqkv,
                        Matrix<float> dp);

// --- embedding: y[r] = bytes[token of r] + positions[place of r in its sequence]

void embed(cudaStream_t stream, const int* tokens, int length, In bytes, In positions, Matrix<float> y);
void embed_backward(cudaStream_t stream, const int* tokens, int length, In dy, Matrix<float> dbytes,
                    Matrix<float> dpositions);

// --- softmax and cross-entropy

/// *loss = the mean over rows. Replaces the logits by their gradient, times *scale. row_losses: workspace with one
/// double per row.
void cross_entropy(cudaStream_t stream, Matrix<float> logits, const int* targets, const float* scale,
                   double* row_losses, double* loss);

}  // namespace example::cuda
