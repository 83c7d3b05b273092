#include "common/cuda/layers.cuh"

#include <cmath>
#include <cstdint>

#include <tessera/core/bfloat16.hpp>
#include <tessera/core/float16.hpp>

#include "common/cuda/launch.cuh"

namespace example::cuda {
namespace {

constexpr int lanes = 32;

// A warp handles a row: the row's index, and this thread's lane in the warp.
__device__ int this_row() { return static_cast<int>(this_thread() / lanes); }
__device__ int this_lane() { return static_cast<int>(threadIdx.x % lanes); }

// The sum over the warp's lanes, in all lanes.
template <class T>
__device__ T sum_of_lanes(T value) {
  for (int by = lanes / 2; by > 0; by /= 2) value += __shfl_xor_sync(0xffffffffu, value, by);
  return value;
}
__device__ float most_of_lanes(float value) {
  for (int by = lanes / 2; by > 0; by /= 2) value = fmaxf(value, __shfl_xor_sync(0xffffffffu, value, by));
  return value;
}

// Kernels take matrices by value. The members of Matrix are for the host only.
template <class T>
struct Rows {
  T* data;
  int rows, columns, stride;

  Rows(Matrix<T> m) : data(m.data), rows(m.rows), columns(m.columns), stride(m.stride) {}
  __device__ T* row(int r) const { return data + static_cast<std::int64_t>(r) * stride; }
};
using InRows = Rows<const float>;
using OutRows = Rows<float>;

template <class T>
std::int64_t elements(Matrix<T> m) {
  return static_cast<std::int64_t>(m.rows) * m.columns;
}
template <class T>
std::int64_t warps(Matrix<T> m) {
  return static_cast<std::int64_t>(m.rows) * lanes;
}

template <class T>
__global__ void convert_kernel(const T* from, std::int64_t n, float* to) {
  if (const std::int64_t i = this_thread(); i < n) to[i] = static_cast<float>(from[i]);
}

template <class T>
__global__ void add_kernel(const float* from, std::int64_t n, T* to) {
  if (const std::int64_t i = this_thread(); i < n) to[i] = T(static_cast<float>(to[i]) + from[i]);
}

// Copies one row to all rows of y.
__global__ void repeat_kernel(const float* row, OutRows y) {
  const std::int64_t i = this_thread();
  if (i >= static_cast<std::int64_t>(y.rows) * y.columns) return;
  y.row(static_cast<int>(i / y.columns))[i % y.columns] = row[i % y.columns];
}

// One thread per column.
__global__ void add_columns_kernel(InRows x, float* sums) {
  const std::int64_t c = this_thread();
  if (c >= x.columns) return;
  float sum = 0;
  for (int r = 0; r < x.rows; ++r) sum += x.row(r)[c];
  sums[c] += sum;
}

__global__ void relu_kernel(OutRows x) {
  const std::int64_t i = this_thread();
  if (i >= static_cast<std::int64_t>(x.rows) * x.columns) return;
  float& value = x.row(static_cast<int>(i / x.columns))[i % x.columns];
  value = fmaxf(value, 0.0f);
}

__global__ void relu_backward_kernel(InRows y, OutRows dy) {
  const std::int64_t i = this_thread();
  if (i >= static_cast<std::int64_t>(y.rows) * y.columns) return;
  const int r = static_cast<int>(i / y.columns), c = static_cast<int>(i % y.columns);
  if (y.row(r)[c] <= 0) dy.row(r)[c] = 0;
}

__global__ void gelu_kernel(OutRows x, OutRows y) {
  const std::int64_t i = this_thread();
  if (i >= static_cast<std::int64_t>(x.rows) * x.columns) return;
  const int r = static_cast<int>(i / x.columns), c = static_cast<int>(i % x.columns);
  constexpr float a = 0.7978845608028654f, b = 0.044715f;
  const float v = x.row(r)[c];
  const float tanh = tanhf(a * (v + b * v * v * v));
  y.row(r)[c] = v * (1 + tanh) / 2;
  x.row(r)[c] = (1 + tanh) / 2 + v * (1 - tanh * tanh) / 2 * a * (1 + 3 * b * v * v);
}

__global__ void multiply_kernel(InRows by, OutRows x) {
  const std::int64_t i = this_thread();
  if (i >= static_cast<std::int64_t>(x.rows) * x.columns) return;
  const int r = static_cast<int>(i / x.columns), c = static_cast<int>(i % x.columns);
  x.row(r)[c] *= by.row(r)[c];
}

struct Moments {
  float mean, inverse_deviation;
};

// Called by all lanes of a warp.
__device__ Moments moments_of(const float* row, int n) {
  float sum = 0, squares = 0;
  for (int c = this_lane(); c < n; c += lanes) sum += row[c];
  const float mean = sum_of_lanes(sum) / static_cast<float>(n);
  for (int c = this_lane(); c < n; c += lanes) squares += (row[c] - mean) * (row[c] - mean);
  return {mean, 1 / sqrtf(sum_of_lanes(squares) / static_cast<float>(n) + 1e-5f)};
}

__global__ void layer_norm_kernel(InRows x, const float* scale, const float* shift, OutRows y) {
  const int r = this_row();
  if (r >= x.rows) return;
  const Moments of = moments_of(x.row(r), x.columns);
  for (int c = this_lane(); c < x.columns; c += lanes)
    y.row(r)[c] = scale[c] * ((x.row(r)[c] - of.mean) * of.inverse_deviation) + shift[c];
}

__global__ void layer_norm_input_kernel(InRows x, const float* scale, InRows dy, OutRows dx, Moments* moments) {
  const int r = this_row();
  if (r >= x.rows) return;
  const Moments of = moments_of(x.row(r), x.columns);
  if (this_lane() == 0) moments[r] = of;
  const auto normal = [&](int c) { return (x.row(r)[c] - of.mean) * of.inverse_deviation; };
  float sum = 0, along = 0;  // sums of the gradient of the normalized row, and of it times that row
  for (int c = this_lane(); c < x.columns; c += lanes) {
    const float d = dy.row(r)[c] * scale[c];
    sum += d;
    along += d * normal(c);
  }
  const float n = static_cast<float>(x.columns);
  sum = sum_of_lanes(sum) / n;
  along = sum_of_lanes(along) / n;
  for (int c = this_lane(); c < x.columns; c += lanes)
    dx.row(r)[c] += of.inverse_deviation * (dy.row(r)[c] * scale[c] - sum - normal(c) * along);
}

// One thread per column.
__global__ void layer_norm_weights_kernel(InRows x, InRows dy, const Moments* moments, float* dscale, float* dshift) {
  const std::int64_t c = this_thread();
  if (c >= x.columns) return;
  float of_scale = 0, of_shift = 0;
  for (int r = 0; r < x.rows; ++r) {
    const float d = dy.row(r)[c];
    of_scale += d * ((x.row(r)[c] - moments[r].mean) * moments[r].inverse_deviation);
    of_shift += d;
  }
  dscale[c] += of_scale;
  dshift[c] += of_shift;
}

// Row r belongs to token r mod length and attends to tokens 0 to itself.
__global__ void causal_softmax_kernel(OutRows p, int length) {
  const int r = this_row();
  if (r >= p.rows) return;
  const int seen = r % length + 1;
  float* const row = p.row(r);
  float largest = -INFINITY, total = 0;
  for (int j = this_lane(); j < seen; j += lanes) largest = fmaxf(largest, row[j]);
  largest = most_of_lanes(largest);
  for (int j = this_lane(); j < seen; j += lanes) total += row[j] = expf(row[j] - largest);
  total = sum_of_lanes(total);
  for (int j = this_lane(); j < length; j += lanes) row[j] = j < seen ? row[j] / total : 0;
}

// Replaces dp by the gradient of the scores: p (dp - mean of dp).
__global__ void causal_softmax_backward_kernel(InRows p, OutRows dp, int length) {
  const int r = this_row();
  if (r >= p.rows) return;
  const int seen = r % length + 1;
  float mean = 0;
  for (int j = this_lane(); j < seen; j += lanes) mean += p.row(r)[j] * dp.row(r)[j];
  mean = sum_of_lanes(mean);
  for (int j = this_lane(); j < length; j += lanes) dp.row(r)[j] = p.row(r)[j] * (dp.row(r)[j] - mean);
}

__global__ void embed_kernel(const int* tokens, int length, InRows bytes, InRows positions, OutRows y) {
  const std::int64_t i = this_thread();
  if (i >= static_cast<std::int64_t>(y.rows) * y.columns) return;
  const int r = static_cast<int>(i / y.columns), c = static_cast<int>(i % y.columns);
  y.row(r)[c] = bytes.row(tokens[r])[c] + positions.row(r % length)[c];
}

// One thread per element of the table, which searches the rows that use it: slower than atomics, but in fixed order.
__global__ void embed_bytes_kernel(const int* tokens, InRows dy, OutRows dbytes) {
  const std::int64_t i = this_thread();
  if (i >= static_cast<std::int64_t>(dbytes.rows) * dbytes.columns) return;
  const int token = static_cast<int>(i / dbytes.columns), c = static_cast<int>(i % dbytes.columns);
  float sum = 0;
  for (int r = 0; r < dy.rows; ++r)
    if (tokens[r] == token) sum += dy.row(r)[c];
  dbytes.row(token)[c] += sum;
}

__global__ void embed_positions_kernel(int length, InRows dy, OutRows dpositions) {
  const std::int64_t i = this_thread();
  if (i >= static_cast<std::int64_t>(dpositions.rows) * dpositions.columns) return;
  const int place = static_cast<int>(i / dpositions.columns), c = static_cast<int>(i % dpositions.columns);
  float sum = 0;
  for (int r = place; r < dy.rows; r += length) sum += dy.row(r)[c];
  dpositions.row(place)[c] += sum;
}

__global__ void cross_entropy_kernel(OutRows logits, const int* targets, const float* scale, double* row_losses) {
  const int r = this_row();
  if (r >= logits.rows) return;
  float* const row = logits.row(r);
  const int target = targets[r];
  float largest = -INFINITY, total = 0;
  for (int c = this_lane(); c < logits.columns; c += lanes) largest = fmaxf(largest, row[c]);
  largest = most_of_lanes(largest);
  for (int c = this_lane(); c < logits.columns; c += lanes) total += expf(row[c] - largest);
  total = sum_of_lanes(total);
  if (this_lane() == 0) row_losses[r] = static_cast<double>(logf(total) - (row[target] - largest));
  __syncwarp();  // another lane will overwrite row[target]
  const float factor = *scale / static_cast<float>(logits.rows);
  for (int c = this_lane(); c < logits.columns; c += lanes)
    row[c] = (expf(row[c] - largest) / total - static_cast<float>(c == target)) * factor;
}

// Runs with one warp.
__global__ void mean_kernel(const double* values, int n, double* mean) {
  if (this_row() > 0) return;
  double sum = 0;
  for (int i = this_lane(); i < n; i += lanes) sum += values[i];
  sum = sum_of_lanes(sum);
  if (this_lane() == 0) *mean = sum / n;
}

// Head h of all sequences, in a matrix that consists of `parts` matrices of equal width side by side.
template <class T>
Blas::Each<T> head_of(Matrix<T> x, int length, int heads, int h, int parts = 1, int part = 0) {
  const int width = x.columns / parts, size = width / heads;
  return {{x.data + part * width + h * size, length, size, x.stride}, static_cast<std::int64_t>(length) * x.stride};
}

// The square matrices of p for this head.
template <class T>
Blas::Each<T> squares_of(Matrix<T> p, int length, int heads, int h) {
  const std::int64_t square = static_cast<std::int64_t>(length) * length;
  return {{p.data + h * square, length, length}, heads * square};
}

}  // namespace

template <class T>
void to_floats(cudaStream_t stream, const T* from, std::int64_t n, float* to) {
  launch(stream, n, convert_kernel<T>, from, n, to);
}
template void to_floats(cudaStream_t, const tessera::bfloat16*, std::int64_t, float*);
template void to_floats(cudaStream_t, const tessera::float16*, std::int64_t, float*);

template <class T>
void add(cudaStream_t stream, const float* from, std::int64_t n, T* to) {
  launch(stream, n, add_kernel<T>, from, n, to);
}
template void add(cudaStream_t, const float*, std::int64_t, float*);
template void add(cudaStream_t, const float*, std::int64_t, tessera::bfloat16*);
template void add(cudaStream_t, const float*, std::int64_t, tessera::float16*);

void linear(const Blas& blas, In x, In weight, const float* bias, Matrix<float> y) {
  launch(blas.stream(), elements(y), repeat_kernel, bias, OutRows(y));
  blas.product(x, weight.t(), y, 1);
}

void linear_backward(const Blas& blas, In x, In dy, Matrix<float> dweight, float* dbias) {
  blas.product(dy.t(), x, dweight, 1);
  launch(blas.stream(), dy.columns, add_columns_kernel, InRows(dy), dbias);
}

void relu(cudaStream_t stream, Matrix<float> x) { launch(stream, elements(x), relu_kernel, OutRows(x)); }
void relu_backward(cudaStream_t stream, In y, Matrix<float> dy) {
  launch(stream, elements(y), relu_backward_kernel, InRows(y), OutRows(dy));
}

void gelu(cudaStream_t stream, Matrix<float> x, Matrix<float> y) {
  launch(stream, elements(x), gelu_kernel, OutRows(x), OutRows(y));
}
void gelu_backward(cudaStream_t stream, In derivative, Matrix<float> dy) {
  launch(stream, elements(dy), multiply_kernel, InRows(derivative), OutRows(dy));
}

void layer_norm(cudaStream_t stream, In x, const float* scale, const float* shift, Matrix<float> y) {
  launch(stream, warps(x), layer_norm_kernel, InRows(x), scale, shift, OutRows(y));
}
void layer_norm_backward(cudaStream_t stream, In x, const float* scale, In dy, Matrix<float> dx, float* dscale,
                         float* dshift, float* moments) {
  auto* const of = reinterpret_cast<Moments*>(moments);
  launch(stream, warps(x), layer_norm_input_kernel, InRows(x), scale, InRows(dy), OutRows(dx), of);
  launch(stream, x.columns, layer_norm_weights_kernel, InRows(x), InRows(dy), of, dscale, dshift);
}

void attention(const Blas& blas, In qkv, int length, int heads, Matrix<float> p, Matrix<float> y) {
  const int sequences = qkv.rows / length;
  const float scale = 1 / sqrtf(static_cast<float>(y.columns / heads));
  for (int h = 0; h < heads; ++h)
    blas.products(sequences, head_of(qkv, length, heads, h, 3, 0), head_of(qkv, length, heads, h, 3, 1).t(),
                  squares_of(p, length, heads, h), scale);
  launch(blas.stream(), warps(p), causal_softmax_kernel, OutRows(p), length);
  for (int h = 0; h < heads; ++h)
    blas.products(sequences, squares_of(In(p), length, heads, h), head_of(qkv, length, heads, h, 3, 2),
                  head_of(y, length, heads, h));
}

void attention_backward(const Blas& blas, In qkv, int length, int heads, In p, In dy, Matrix<float> dqkv,
                        Matrix<float> dp) {
  const int sequences = qkv.rows / length;
  const float scale = 1 / sqrtf(static_cast<float>(dy.columns / heads));
  for (int h = 0; h < heads; ++h) {
    const auto d = head_of(dy, length, heads, h);
    blas.products(sequences, squares_of(p, length, heads, h).t(), d, head_of(dqkv, length, heads, h, 3, 2));
    blas.products(sequences, d, head_of(qkv, length, heads, h, 3, 2).t(), squares_of(dp, length, heads, h));
  }
  launch(blas.stream(), warps(p), causal_softmax_backward_kernel, InRows(p), OutRows(dp), length);
  for (int h = 0; h < heads; ++h) {
    const auto dscores = squares_of(In(dp), length, heads, h);
    blas.products(sequences, dscores, head_of(qkv, length, heads, h, 3, 1), head_of(dqkv, length, heads, h, 3, 0),
                  scale);
    blas.products(sequences, dscores.t(), head_of(qkv, length, heads, h, 3, 0), head_of(dqkv, length, heads, h, 3, 1),
                  scale);
  }
}

void embed(cudaStream_t stream, const int* tokens, int length, In bytes, In positions, Matrix<float> y) {
  launch(stream, elements(y), embed_kernel, tokens, length, InRows(bytes), InRows(positions), OutRows(y));
}
void embed_backward(cudaStream_t stream, const int* tokens, int length, In dy, Matrix<float> dbytes,
                    Matrix<float> dpositions) {
  launch(stream, elements(dbytes), embed_bytes_kernel, tokens, InRows(dy), OutRows(dbytes));
  launch(stream, elements(dpositions), embed_positions_kernel, length, InRows(dy), OutRows(dpositions));
}

void cross_entropy(cudaStream_t stream, Matrix<float> logits, const int* targets, const float* scale,
                   double* row_losses, double* loss) {
  launch(stream, warps(logits), cross_entropy_kernel, OutRows(logits), targets, scale, row_losses);
  launch(stream, lanes, mean_kernel, row_losses, logits.rows, loss);
}

}  // namespace example::cuda
