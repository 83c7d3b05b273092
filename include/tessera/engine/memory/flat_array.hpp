// An array over the flat space as one rank holds it. Every per-parameter array of the engine is one: parameters,
// gradients, reduced gradients, partial sums, master weights, optimizer state. Here alone an index of the flat space is
// mapped to memory. Owns no memory and converts nothing: Storage owns, and the precision's types convert.
//
//     replicated   |          bucket 0           |          bucket 1           |     held(b): all;  owned(b): a part
//     world        | part of 0 | part of 1 | padding where a part is short           held(b) = owned(b)
#pragma once

#include <cstddef>
#include <span>

#include <tessera/layout/partition.hpp>
#include <tessera/stage/placement.hpp>

namespace tessera::engine {

template <class T, Placement where>
class FlatArray {
  static_assert(where.extent != Extent::group, "FlatArray: arrays are not sharded over groups of ranks yet");

 public:
  using Element = T;

  /// An array without memory; nothing may be asked of it.
  FlatArray() = default;

  /// space: outlives the array. data: space.shard_elements() elements if the array is sharded, else those of the whole
  /// space.
  FlatArray(const layout::Partition& space, int rank, T* data) noexcept : space_(&space), rank_(rank), data_(data) {}

  /// What this rank has of bucket `b` in memory.
  constexpr Range held(int b) const { return where.sharded() ? owned(b) : space_->range(b); }
  /// What this rank reduces of bucket `b`, and updates where the array is sharded: of all ranks exactly this one.
  constexpr Range owned(int b) const { return space_->owned(b, rank_); }

  /// The element at `place` of the flat space, which is in held(b), or its end.
  T* at(int b, index_t place) const noexcept {
    if constexpr (where.sharded())
      return data_ + space_->shard_begin(b) + (place - owned(b).begin);
    else
      return data_ + place;
  }

  /// The elements of `range`, which lies in held(b).
  std::span<T> span(int b, Range range) const noexcept { return {at(b, range.begin), to_size(range.size())}; }
  std::span<T> held_span(int b) const noexcept { return span(b, held(b)); }
  std::span<T> owned_span(int b) const noexcept { return span(b, owned(b)); }

  /// The elements of `range`, which may span buckets.
  std::span<T> span(Range range) const noexcept
    requires(!where.sharded())
  {
    return {data_ + range.begin, to_size(range.size())};
  }

 private:
  const layout::Partition* space_ = nullptr;
  int rank_ = 0;
  T* data_ = nullptr;
};

}  // namespace tessera::engine
