// Slices: the elements of one tensor in one per-parameter array that a rank holds, and the loop over all slices.
// Checkpoints, exports and digests use them. Does not copy or convert.
#pragma once

#include <span>
#include <type_traits>

#include <tessera/engine/memory/flat_array.hpp>
#include <tessera/layout/sharding.hpp>

namespace tessera {

/// Consecutive elements of one tensor in one array. T is const if they may only be read.
template <class T>
struct TensorSlice {
  using Element = T;

  const char* array;      ///< "parameter", "master", a name of the rule's state_names, or "trained"
  Tensor tensor;
  index_t first;          ///< row-major index of elements[0] in the tensor
  std::span<T> elements;  ///< in the executor's memory
};

namespace engine {

/// Calls visit(TensorSlice) for each slice of the tensors in `array`, space by space. to_write: elements are not const.
/// owned_only: only what this rank owns, instead of all that it holds.
template <bool to_write, class T, Placement where, class Visit>
void for_each_slice(const Sharding& sharding, bool owned_only, const char* name, const FlatArray<T, where>& array,
                    Visit& visit) {
  using Visited = TensorSlice<std::conditional_t<to_write, T, const T>>;
  for (int s = array.spaces().first; s < array.spaces().last; ++s)
    for (int b = 0; b < sharding.buckets(); ++b) {
      const int p = sharding.piece(b, s);
      sharding.for_each_run(b, s, owned_only ? array.owned(p) : array.held(p),
                            [&](Tensor tensor, index_t first, Range run) {
                              visit(Visited{name, tensor, first, array.span(p, run)});
                            });
    }
}

}  // namespace engine

}  // namespace tessera
