// A set of elements, stored as sorted disjoint ranges. Adjacent ranges are merged, so that a buffer filled from its end
// is one entry.
#pragma once

#include <tessera/core/list.hpp>
#include <tessera/core/math.hpp>
#include <tessera/layout/range.hpp>

namespace tessera::layout {

class RangeSet {
 public:
  /// Allocates no more memory while the set has at most `ranges` ranges.
  explicit RangeSet(std::size_t ranges = 64) { ranges_.reserve(ranges); }

  /// Removes all ranges, but does not free memory.
  void clear() { ranges_.clear(); }

  void add(Range range) {
    if (range.empty()) return;
    const auto first = ranges_.begin() + static_cast<std::ptrdiff_t>(first_that_ends_after(range.begin - 1));
    auto last = first;
    for (; last != ranges_.end() && last->begin <= range.end; ++last)
      range = {min(range.begin, last->begin), max(range.end, last->end)};
    if (first == last) {
      ranges_.insert(first, range);
      return;
    }
    *first = range;
    ranges_.erase(first + 1, last);
  }

  /// Whether any element of `range` is in the set.
  bool meets(Range range) const {
    const std::size_t next = first_that_ends_after(range.begin);
    return next < ranges_.size() && !intersect(ranges_[next], range).empty();
  }

  /// Whether all elements of `range` are in the set.
  bool contains(Range range) const { return range.empty() || first_outside(range.begin) >= range.end; }

  /// The first element at or after `begin` that is not in the set.
  index_t first_outside(index_t begin) const {
    const std::size_t next = first_that_ends_after(begin);
    return next < ranges_.size() && ranges_[next].begin <= begin ? ranges_[next].end : begin;
  }

  /// The number of stored ranges.
  std::size_t ranges() const noexcept { return ranges_.size(); }

 private:
  std::size_t first_that_ends_after(index_t place) const {
    const auto ends_before = [&](index_t i) { return ranges_[to_size(i)].end <= place; };
    return to_size(core::partition_point(static_cast<index_t>(ranges_.size()), ends_before));
  }

  core::List<Range> ranges_;
};

}  // namespace tessera::layout
