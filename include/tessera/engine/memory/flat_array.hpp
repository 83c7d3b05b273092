// An array over the flat space as one rank holds it. Every per-parameter array of the engine is one: parameters,
// gradients, reduced gradients, partial sums, master weights, optimizer state. Only this class maps an offset in the
// flat space to memory. It owns no memory (Storage does) and converts no types.
//
//     replicated   |         bucket 0         |         bucket 1         |    held(b): all; owned(b): a part
//     group        | part of 0   | part of 1   |                              held(b): a part; owned(b): a piece of it
//     world        | part of 0 | part of 1 |  (a short part has padding)      held(b) = owned(b)
#pragma once

#include <cstddef>
#include <span>

#include <tessera/layout/partition.hpp>
#include <tessera/layout/placement.hpp>
#include <tessera/layout/sharding.hpp>

namespace tessera::engine {

template <class T, Placement where>
class FlatArray {
 public:
  using Element = T;

  /// An array without memory. Its members must not be called.
  FlatArray() = default;

  /// space: must outlive the array. data: space.shard_elements(extent) elements if the array is sharded, else all
  /// elements of the space.
  FlatArray(const layout::Partition& space, int rank, T* data) noexcept : space_(&space), rank_(rank), data_(data) {}

  /// The elements of bucket `b` that this rank has in memory.
  constexpr Range held(int b) const { return space_->held(b, rank_, where.extent); }
  /// The elements of bucket `b` that this rank, and no other, reduces.
  constexpr Range owned(int b) const { return space_->owned(b, rank_); }

  /// The address of offset `place` of the flat space, which is in held(b) or its end.
  T* at(int b, index_t place) const noexcept {
    if constexpr (where.sharded())
      return data_ + space_->shard_begin(b, where.extent) + (place - held(b).begin);
    else
      return data_ + place;
  }

  /// The elements of `range`, which is in held(b).
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

/// Sets the ranks of `call` to those that own parts of what this rank holds of an array with placement `where`: this
/// rank's peers if it is sharded over groups, else the world.
template <Placement where, class Call>
void among_owners(Call& call, const Sharding& sharding) noexcept {
  if constexpr (where.extent == Extent::group) {
    call.over = Ranks::peers;
    call.group_size = sharding.groups().size;
  }
}

}  // namespace tessera::engine
