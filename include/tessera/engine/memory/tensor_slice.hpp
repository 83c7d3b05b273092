// What a rank has of one tensor in one per-parameter array, and the walk over all of it: what checkpoints, exports and
// digests are made from. Copies and converts nothing.
#pragma once

#include <span>
#include <type_traits>

#include <tessera/engine/memory/flat_array.hpp>
#include <tessera/layout/sharding.hpp>

namespace tessera {

/// Consecutive elements of one tensor in one array. T: const where they are only read.
template <class T>
struct TensorSlice {
  using Element = T;

  const char* array;      ///< "parameter", "master", a name of the rule's state_names, or "trained"
  Tensor tensor;
  index_t first;          ///< the tensor's element, counted row-major, that elements[0] is
  std::span<T> elements;  ///< in the executor's memory
};

namespace engine {

/// Calls visit(TensorSlice) for what `array` has of the trainable or frozen tensors. to_write: whether elements may be
/// written, or are const. owned_only: what this rank owns, instead of all that it holds.
template <bool to_write, class T, Placement where, class Visit>
void for_each_slice(const Sharding& sharding, bool frozen, bool owned_only, const char* name,
                    const FlatArray<T, where>& array, Visit& visit) {
  using Visited = TensorSlice<std::conditional_t<to_write, T, const T>>;
  for (int b = 0; b < sharding.buckets(); ++b)
    sharding.for_each_run(b, frozen, owned_only ? array.owned(b) : array.held(b),
                          [&](Tensor tensor, index_t first, Range run) {
                            visit(Visited{name, tensor, first, array.span(b, run)});
                          });
}

}  // namespace engine

}  // namespace tessera
