// Matrix products on a device, with cuBLAS.
#pragma once

#include <cublas_v2.h>
#include <cuda_runtime.h>

#include <cstdint>
#include <stdexcept>
#include <string>
#include <type_traits>

#include "common/matrix.hpp"

namespace example::cuda {

/// The products of one rank, on its compute stream; nothing blocks. The same products in the same order give the same
/// bits.
class Blas {
 public:
  /// On the current device. Throws std::runtime_error.
  explicit Blas(cudaStream_t stream) : stream_(stream) {
    check(cublasCreate(&handle_), "starting cuBLAS");
    check(cublasSetStream(handle_, stream), "giving cuBLAS a stream");
  }
  Blas(const Blas&) = delete;
  ~Blas() { cublasDestroy(handle_); }

  cudaStream_t stream() const { return stream_; }

  /// c = alpha a b + beta c. cuBLAS is column-major: it sees the transposed matrices, and c^T = b^T a^T.
  void product(Matrix<const float> a, Matrix<const float> b, Matrix<float> c, float beta = 0, float alpha = 1) const {
    check(cublasSgemm(handle_, operation(b), operation(a), c.columns, c.rows, inner(a), &alpha, b.data, b.stride,
                      a.data, a.stride, &beta, c.data, c.stride),
          "multiplying matrices");
  }

  /// A batch of matrices that are `step` elements apart.
  template <class T>
  struct Each {
    Matrix<T> first;
    std::int64_t step;

    Each(Matrix<T> first, std::int64_t step) : first(first), step(step) {}
    template <class U>
    requires std::is_same_v<const U, T> Each(const Each<U>& each) : first(each.first), step(each.step) {}

    Each t() const { return {first.t(), step}; }
  };

  /// `count` products c = alpha a b.
  void products(int count, Each<const float> a, Each<const float> b, Each<float> c, float alpha = 1) const {
    const float beta = 0;
    check(cublasSgemmStridedBatched(handle_, operation(b.first), operation(a.first), c.first.columns, c.first.rows,
                                    inner(a.first), &alpha, b.first.data, b.first.stride, b.step, a.first.data,
                                    a.first.stride, a.step, &beta, c.first.data, c.first.stride, c.step, count),
          "multiplying matrices");
  }

 private:
  static void check(cublasStatus_t status, const char* what) {
    if (status != CUBLAS_STATUS_SUCCESS)
      throw std::runtime_error(std::string(what) + ": cuBLAS says " + cublasGetStatusString(status));
  }
  static cublasOperation_t operation(Matrix<const float> m) { return m.transposed ? CUBLAS_OP_T : CUBLAS_OP_N; }
  static int inner(Matrix<const float> a) { return a.transposed ? a.rows : a.columns; }

  cudaStream_t stream_;
  cublasHandle_t handle_{};
};

}  // namespace example::cuda
