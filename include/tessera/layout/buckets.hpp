// Buckets: consecutive whole units that one collective moves, up to a maximum number of elements. A larger unit is a
// bucket of its own. A flat layout is cut into equal buckets instead.
#pragma once

#include <tessera/core/list.hpp>
#include <tessera/layout/layout.hpp>

namespace tessera::layout {

/// Units [first_unit, last_unit), and their ranges in the trainable and the frozen space.
struct Bucket {
  int first_unit = 0;
  int last_unit = 0;
  Range trainable;
  Range frozen;
};

/// Divides `layout` into buckets of at most `elements` elements (trainable plus frozen), in order of forward use.
/// A flat layout is cut at multiples of world * block, so that only its last bucket divides unevenly.
constexpr core::List<Bucket> make_buckets(const Layout& layout, int world, index_t elements) {
  core::List<Bucket> buckets;
  if (layout.is_flat()) {
    const index_t grain = world * block;
    const index_t size = max(elements / grain, index_t{1}) * grain;
    const index_t n = layout.trainable_elements();
    for (index_t begin = 0; begin < n || buckets.empty(); begin += size)
      buckets.push_back({0, 1, {begin, min(begin + size, n)}, {}});
    return buckets;
  }
  for (const Unit u : layout.forward()) {
    const Range trainable = layout.trainable(u);
    const Range frozen = layout.frozen(u);
    if (!buckets.empty()) {
      Bucket& last = buckets.back();
      if (trainable.end - last.trainable.begin + frozen.end - last.frozen.begin <= elements) {
        last.last_unit = u.index + 1;
        last.trainable.end = trainable.end;
        last.frozen.end = frozen.end;
        continue;
      }
    }
    buckets.push_back({u.index, u.index + 1, trainable, frozen});
  }
  return buckets;
}

}  // namespace tessera::layout
