// An array over one or more spaces of a layout, as one rank holds it. Every per-parameter array of the engine is one:
// parameters, gradients, reduced gradients, partial sums, master weights, optimizer state. Only this class maps an
// offset in the flat space to memory. It owns no memory (Storage does) and converts no types. p: the index of a piece.
//
//     replicated   |         piece 0          |         piece 1          |    held(p): all; owned(p): a part
//     group        | part of 0   | part of 1   |                              held(p): a part; owned(p): a slice of it
//     world        | part of 0 | part of 1 |  (a short part has padding)      held(p) = owned(p)
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

  /// sharding: must outlive the array. data: sharding.shard_elements(spaces, extent) elements if the array is sharded,
  /// else all elements of `spaces`.
  FlatArray(const Sharding& sharding, layout::Spaces spaces, int rank, T* data) noexcept
      : parts_(&sharding.partition()),
        spaces_(spaces),
        rank_(rank),
        begin_(where.sharded() ? parts_->shard_begin(sharding.piece(0, spaces.first), where.extent)
                               : sharding.layout().space_begin(spaces.first)),
        data_(data) {}

  constexpr layout::Spaces spaces() const noexcept { return spaces_; }
  /// The same memory, of which only `spaces` are visited.
  constexpr FlatArray within(layout::Spaces spaces) const noexcept {
    FlatArray part = *this;
    part.spaces_ = spaces;
    return part;
  }

  /// The elements of piece `p` that this rank has in memory.
  constexpr Range held(int p) const { return parts_->held(p, rank_, where.extent); }
  /// The elements of piece `p` that this rank, and no other, reduces.
  constexpr Range owned(int p) const { return parts_->owned(p, rank_); }

  /// The address of offset `place` of the flat space, which is in held(p) or its end.
  T* at(int p, index_t place) const noexcept {
    if constexpr (where.sharded())
      return data_ + (parts_->shard_begin(p, where.extent) - begin_) + (place - held(p).begin);
    else
      return data_ + (place - begin_);
  }

  /// The elements of `range`, which is in held(p).
  std::span<T> span(int p, Range range) const noexcept { return {at(p, range.begin), to_size(range.size())}; }
  std::span<T> held_span(int p) const noexcept { return span(p, held(p)); }
  std::span<T> owned_span(int p) const noexcept { return span(p, owned(p)); }

  /// The elements of `range`, which may span pieces.
  std::span<T> span(Range range) const noexcept
    requires(!where.sharded())
  {
    return {data_ + (range.begin - begin_), to_size(range.size())};
  }

 private:
  const layout::Partition* parts_ = nullptr;
  layout::Spaces spaces_{};
  int rank_ = 0;
  index_t begin_ = 0;  // what precedes data_: elements of a shard if the array is sharded, else of the flat space
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
