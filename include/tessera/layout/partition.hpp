// Which rank owns which elements. Every range is cut into N parts, one per rank; without groups, rank r owns part r.
// With groups, peers hold the same part and each owns a piece of it (core/groups.hpp).
//
//     ranges       |          0          |             1              |   2    |
//     parts, N=3   |  r0  |  r1  |  r2   |   r0    |    r1   |  r2    |r0 |r1|.|      a part is a multiple of `block`;
//     shard of r1         |  part 0  |  part 1  | part 2 |                            the last may be short or empty
//
// A shard has memory for a full part of every range, so that all ranks hold the same number of bytes. The rest of a
// short part is padding: zero, not part of any norm, never sent.
#pragma once

#include <tessera/core/groups.hpp>
#include <tessera/core/list.hpp>
#include <tessera/core/math.hpp>
#include <tessera/layout/placement.hpp>
#include <tessera/layout/range.hpp>

namespace tessera::layout {

class Partition {
 public:
  /// groups.size: 1 unless an array is sharded over groups.
  constexpr Partition(core::List<Range> ranges, core::Groups groups) : ranges_(std::move(ranges)), groups_(groups) {
    for (int r = 0; r < static_cast<int>(ranges_.size()); ++r) {
      begins_.push_back(shard_elements_);
      shard_elements_ += part(r);
    }
    begins_.push_back(shard_elements_);
  }

  constexpr int world() const { return groups_.world; }
  constexpr core::Groups groups() const { return groups_; }
  constexpr Range range(int r) const { return ranges_[to_size(r)]; }

  /// Elements of a full part of range `r` that a rank owns, and that it holds of an array with placement `extent`.
  constexpr index_t part(int r) const { return ceil_div(ranges_[to_size(r)].size(), world() * block) * block; }
  constexpr index_t part(int r, Extent extent) const {
    return extent == Extent::replicated ? range(r).size() : part(r) * parts_in(extent);
  }

  /// The elements of range `r`, in the flat space, that `rank` owns. No other rank owns them.
  constexpr Range owned(int r, int rank) const { return slice(r, part(r), groups_.slice(Ranks::world, rank)); }
  /// The elements of range `r` that `rank` holds of an array with placement `extent`. They include owned().
  constexpr Range held(int r, int rank, Extent extent) const {
    if (extent == Extent::replicated) return range(r);
    return extent == Extent::world ? owned(r, rank)
                                   : slice(r, part(r, extent), groups_.slice(Ranks::group, rank));
  }

  /// The offset of range `r`'s part in a shard (of the last range plus one: its end), and the number of elements of a
  /// shard.
  constexpr index_t shard_begin(int r, Extent extent = Extent::world) const {
    return begins_[to_size(r)] * parts_in(extent);
  }
  constexpr index_t shard_elements(Extent extent = Extent::world) const { return shard_elements_ * parts_in(extent); }

 private:
  // The number of parts over the world in one part with placement `extent`.
  constexpr int parts_in(Extent extent) const { return extent == Extent::group ? groups_.count() : 1; }

  constexpr Range slice(int r, index_t part, int index) const {
    const Range all = ranges_[to_size(r)];
    const index_t begin = min(all.begin + index * part, all.end);
    return {begin, min(begin + part, all.end)};
  }

  core::List<Range> ranges_;
  core::List<index_t> begins_;
  core::Groups groups_;
  index_t shard_elements_ = 0;
};

}  // namespace tessera::layout
