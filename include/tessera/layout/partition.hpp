// Which rank owns what: the r-th N-th part of every range belongs to rank r.
//
//     ranges       |          0          |             1              |   2    |
//     parts, N=3   |  r0  |  r1  |  r2   |   r0    |    r1   |  r2    |r0 |r1|.|      a part is a multiple of `block`
//     shard of r1         |  part 0  |  part 1  | part 2 |                            the last ones may be short or
//     empty
//
// A shard has a full part's room for every range, so that all ranks hold the same number of bytes; what a short part
// leaves of its room is padding: zero, in no norm, never sent.
#pragma once

#include <tessera/core/list.hpp>
#include <tessera/core/math.hpp>
#include <tessera/layout/range.hpp>

namespace tessera::layout {

class Partition {
 public:
  constexpr Partition(core::List<Range> ranges, int world) : ranges_(std::move(ranges)), world_(world) {
    for (int r = 0; r < static_cast<int>(ranges_.size()); ++r) {
      begins_.push_back(shard_elements_);
      shard_elements_ += part(r);
    }
  }

  constexpr int world() const { return world_; }
  constexpr Range range(int r) const { return ranges_[to_size(r)]; }

  /// Elements of a full part of range `r`.
  constexpr index_t part(int r) const { return ceil_div(ranges_[to_size(r)].size(), world_ * block) * block; }

  /// What `rank` owns of range `r`, in the flat space.
  constexpr Range owned(int r, int rank) const {
    const Range all = ranges_[to_size(r)];
    const index_t begin = min(all.begin + rank * part(r), all.end);
    return {begin, min(begin + part(r), all.end)};
  }

  /// Where range `r`'s part begins in the shard, and how many elements a shard has in all.
  constexpr index_t shard_begin(int r) const { return begins_[to_size(r)]; }
  constexpr index_t shard_elements() const { return shard_elements_; }

  constexpr index_t longest_range() const {
    index_t longest = 0;
    for (const Range& range : ranges_) longest = max(longest, range.size());
    return longest;
  }

  constexpr index_t longest_part() const {
    index_t longest = 0;
    for (int r = 0; r < static_cast<int>(ranges_.size()); ++r) longest = max(longest, part(r));
    return longest;
  }

 private:
  core::List<Range> ranges_;
  core::List<index_t> begins_;
  int world_;
  index_t shard_elements_ = 0;
};

}  // namespace tessera::layout
