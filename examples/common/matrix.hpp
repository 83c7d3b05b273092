// The matrix type of the layers.
#pragma once

#include <cstddef>
#include <type_traits>

namespace example {

/// A view of rows that are `stride` elements apart.
template <class T>
struct Matrix {
  T* data;
  int rows, columns, stride;
  bool transposed = false;  ///< only for arguments of product()

  Matrix(T* data, int rows, int columns) : Matrix(data, rows, columns, columns) {}
  Matrix(T* data, int rows, int columns, int stride, bool transposed = false)
      : data(data), rows(rows), columns(columns), stride(stride), transposed(transposed) {}
  template <class U>
  requires std::is_same_v<const U, T> Matrix(const Matrix<U>& m)
      : Matrix(m.data, m.rows, m.columns, m.stride, m.transposed) {}

  T* row(int r) const { return data + std::ptrdiff_t{r} * stride; }
  Matrix t() const { return {data, rows, columns, stride, !transposed}; }
};

template <class T>
using In = Matrix<const std::type_identity_t<T>>;

}  // namespace example
