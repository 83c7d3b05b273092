// cub::BlockReduce, with another order of additions.
#pragma once

#include <cuda_runtime.h>

namespace cub {

template <class T, int threads>
class BlockReduce {
 public:
  struct TempStorage {
    T values[threads];
  };
  explicit BlockReduce(TempStorage& storage) : storage_(storage) {}

  /// The result is valid in thread 0. As with CUB, a barrier is needed before `storage` is reused.
  template <class Operation>
  T Reduce(T value, Operation operation) {
    storage_.values[threadIdx.x] = value;
    __syncthreads();
    if (threadIdx.x != 0) return value;
    T result = storage_.values[threads - 1];
    for (int thread = threads - 2; thread >= 0; --thread) result = operation(result, storage_.values[thread]);
    return result;
  }
  T Sum(T value) {
    return Reduce(value, [](const T& a, const T& b) { return a + b; });
  }

 private:
  TempStorage& storage_;
};

}  // namespace cub
