// The cuBLAS calls of the examples, for tests on the host: loops, as kernels of the emulated runtime.
#pragma once

#include <cuda_runtime.h>

enum cublasStatus_t {
  CUBLAS_STATUS_SUCCESS = 0,
  CUBLAS_STATUS_NOT_INITIALIZED = 1,
  CUBLAS_STATUS_EXECUTION_FAILED = 13
};
enum cublasOperation_t { CUBLAS_OP_N = 0, CUBLAS_OP_T = 1 };

struct cublasContext {
  cudaStream_t stream = nullptr;
};
using cublasHandle_t = cublasContext*;

inline const char* cublasGetStatusString(cublasStatus_t) { return "a call failed"; }

inline cublasStatus_t cublasCreate(cublasHandle_t* handle) {
  int device = 0;
  if (cudaGetDevice(&device) != cudaSuccess) return CUBLAS_STATUS_NOT_INITIALIZED;
  *handle = new cublasContext;
  return CUBLAS_STATUS_SUCCESS;
}
inline cublasStatus_t cublasDestroy(cublasHandle_t handle) {
  delete handle;
  return CUBLAS_STATUS_SUCCESS;
}
inline cublasStatus_t cublasSetStream(cublasHandle_t handle, cudaStream_t stream) {
  handle->stream = stream;
  return CUBLAS_STATUS_SUCCESS;
}

namespace emulated {

// A column-major matrix, or a batch of them.
struct Operand {
  const float* data;
  int stride;
  bool transposed;
  long long step;
  float at(int batch, int row, int column) const {
    return data[batch * step + (transposed ? column + static_cast<long long>(row) * stride
                                           : row + static_cast<long long>(column) * stride)];
  }
};

// One block per matrix, one thread per column of the result. With beta = 0 it does not read c, which may be
// uninitialized memory.
inline void gemm_kernel(int m, int n, int k, float alpha, Operand a, Operand b, float beta, float* c, int ldc,
                        long long step) {
  const int batch = static_cast<int>(blockIdx.x);
  for (int j = static_cast<int>(threadIdx.x); j < n; j += static_cast<int>(blockDim.x)) {
    float* const column = c + batch * step + static_cast<long long>(j) * ldc;
    for (int i = 0; i < m; ++i) {
      float sum = 0;
      for (int l = 0; l < k; ++l) sum += a.at(batch, i, l) * b.at(batch, l, j);
      column[i] = beta == 0 ? alpha * sum : alpha * sum + beta * column[i];
    }
  }
}

}  // namespace emulated

inline cublasStatus_t cublasSgemmStridedBatched(cublasHandle_t handle, cublasOperation_t ta, cublasOperation_t tb,
                                                int m, int n, int k, const float* alpha, const float* a, int lda,
                                                long long step_a, const float* b, int ldb, long long step_b,
                                                const float* beta, float* c, int ldc, long long step_c, int count) {
  cudaLaunchConfig_t config{};
  config.gridDim = dim3(static_cast<unsigned>(count));
  config.blockDim = dim3(32);
  config.stream = handle->stream;
  const cudaError_t error = cudaLaunchKernelEx(
      &config, emulated::gemm_kernel, m, n, k, *alpha, emulated::Operand{a, lda, ta == CUBLAS_OP_T, step_a},
      emulated::Operand{b, ldb, tb == CUBLAS_OP_T, step_b}, *beta, c, ldc, step_c);
  return error == cudaSuccess ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_EXECUTION_FAILED;
}

inline cublasStatus_t cublasSgemm(cublasHandle_t handle, cublasOperation_t ta, cublasOperation_t tb, int m, int n,
                                  int k, const float* alpha, const float* a, int lda, const float* b, int ldb,
                                  const float* beta, float* c, int ldc) {
  return cublasSgemmStridedBatched(handle, ta, tb, m, n, k, alpha, a, lda, 0, b, ldb, 0, beta, c, ldc, 0, 1);
}
