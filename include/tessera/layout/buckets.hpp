// Buckets: consecutive whole units that one collective moves, up to a maximum number of elements. A larger unit is a
// bucket of its own. A flat layout is cut into equal buckets instead.
#pragma once

#include <array>

#include <tessera/core/list.hpp>
#include <tessera/layout/layout.hpp>

namespace tessera::layout {

/// Units [first_unit, last_unit), and their range in each space of the layout.
struct Bucket {
  int first_unit = 0;
  int last_unit = 0;
  std::array<Range, most_rules + 1> ranges{};
};

/// Divides `layout` into buckets of at most `elements` elements (of all spaces), in order of forward use.
/// A flat layout is cut at multiples of world * block, so that only its last bucket divides unevenly.
constexpr core::List<Bucket> make_buckets(const Layout& layout, int world, index_t elements) {
  core::List<Bucket> buckets;
  if (layout.is_flat()) {
    const index_t grain = world * block;
    const index_t size = max(elements / grain, index_t{1}) * grain;
    const index_t n = layout.trainable_elements();
    for (index_t begin = 0; begin < n || buckets.empty(); begin += size)
      buckets.push_back({0, 1, {Range{begin, min(begin + size, n)}}});
    return buckets;
  }
  for (const Unit u : layout.forward()) {
    Bucket next = buckets.empty() ? Bucket{} : buckets.back();
    index_t all = 0;
    for (int s = 0; s < layout.spaces(); ++s) {
      Range& range = next.ranges[to_size(s)];
      range.end = layout.range(u, s).end;
      all += range.size();
    }
    next.last_unit = u.index + 1;
    if (!buckets.empty() && all <= elements) {
      buckets.back() = next;
      continue;
    }
    next.first_unit = u.index;
    for (int s = 0; s < layout.spaces(); ++s) next.ranges[to_size(s)] = layout.range(u, s);
    buckets.push_back(next);
  }
  return buckets;
}

}  // namespace tessera::layout
