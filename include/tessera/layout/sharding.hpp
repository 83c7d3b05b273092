// A layout divided over the ranks: its buckets, and the partitions of the trainable and the frozen space.
#pragma once

#include <tessera/core/list.hpp>
#include <tessera/core/math.hpp>
#include <tessera/layout/buckets.hpp>
#include <tessera/layout/partition.hpp>

namespace tessera {

namespace layout {

/// Consecutive elements of the flat space with one hyperparameter group, and the tensor of the first element.
struct Segment {
  Range place;
  int group = 0;
  Tensor tensor;
};

}  // namespace layout

class Sharding {
 public:
  /// bucket_elements: see make_buckets. group_size: divides the world size; 1 unless an array is sharded over groups.
  constexpr Sharding(const Layout& layout, int world, index_t bucket_elements, int group_size = 1)
      : layout_(layout),
        buckets_(layout::make_buckets(layout_, world, bucket_elements)),
        trainable_(ranges(&layout::Bucket::trainable), {world, group_size}),
        frozen_(ranges(&layout::Bucket::frozen), {world, group_size}),
        bucket_of_unit_(to_size(layout.units()), -1) {
    for (int b = 0; b < buckets(); ++b)
      for (int u = buckets_[to_size(b)].first_unit; u < buckets_[to_size(b)].last_unit; ++u)
        bucket_of_unit_[to_size(u)] = b;
  }

  constexpr const Layout& layout() const { return layout_; }
  constexpr int world() const { return trainable_.world(); }
  constexpr core::Groups groups() const { return trainable_.groups(); }
  constexpr int buckets() const { return static_cast<int>(buckets_.size()); }
  constexpr const layout::Bucket& bucket(int b) const { return buckets_[to_size(b)]; }
  /// Throws LayoutError for a unit that the layout does not have.
  constexpr int bucket_of(Unit u) const {
    static_cast<void>(layout_.trainable(u));
    return bucket_of_unit_[to_size(u.index)];
  }
  /// The buckets that have elements in `range` of the trainable space, and empty buckets between them.
  constexpr layout::Handles<int> buckets_of(Range range) const {
    if (range.empty()) return {0, 0, 1};
    const auto ends_before = [&](index_t b) { return buckets_[to_size(b)].trainable.end <= range.begin; };
    const auto begins_before = [&](index_t b) { return buckets_[to_size(b)].trainable.begin < range.end; };
    return {static_cast<int>(core::partition_point(buckets(), ends_before)),
            static_cast<int>(core::partition_point(buckets(), begins_before)), 1};
  }
  constexpr const layout::Partition& trainable() const { return trainable_; }
  constexpr const layout::Partition& frozen() const { return frozen_; }

  /// The subranges of `range` that belong to units, one per unit, without the padding between units.
  core::List<Range> within_units(const layout::Bucket& bucket, Range range) const {
    core::List<Range> found;
    for (int u = bucket.first_unit; u < bucket.last_unit; ++u) {
      const Range shared = layout::intersect(layout_.trainable(Unit{u}), range);
      if (!shared.empty()) found.push_back(shared);
    }
    return found;
  }

  /// The subranges of `range` that belong to trainable tensors. Adjacent ones of the same hyperparameter group are
  /// merged, unless each_tensor.
  core::List<layout::Segment> segments(const layout::Bucket& bucket, Range range, bool each_tensor = false) const {
    core::List<layout::Segment> found;
    for (int u = bucket.first_unit; u < bucket.last_unit; ++u)
      for (const Tensor t : layout_.tensors(Unit{u})) {
        const Range shared = layout_.frozen(t) ? Range{} : layout::intersect(layout_.place(t), range);
        if (shared.empty()) continue;
        const int group = layout_.group(t);
        if (!each_tensor && !found.empty() && found.back().group == group && found.back().place.end == shared.begin)
          found.back().place.end = shared.end;
        else
          found.push_back({shared, group, t});
      }
    return found;
  }

  /// Calls visit(tensor, element, run) for each trainable or frozen tensor of bucket `b` that has elements in `range`.
  /// run: those elements. element: the index of the first of them in the tensor.
  template <class Visit>
  void for_each_run(int b, bool frozen, Range range, Visit visit) const {
    for (int u = buckets_[to_size(b)].first_unit; u < buckets_[to_size(b)].last_unit; ++u)
      for (const Tensor t : layout_.tensors(Unit{u})) {
        if (layout_.frozen(t) != frozen) continue;
        const Range place = layout_.place(t);
        const Range shared = layout::intersect(place, range);
        if (!shared.empty()) visit(t, shared.begin - place.begin, shared);
      }
  }

 private:
  constexpr core::List<Range> ranges(Range layout::Bucket::*space) const {
    core::List<Range> found;
    for (const layout::Bucket& bucket : buckets_) found.push_back(bucket.*space);
    return found;
  }

  Layout layout_;
  core::List<layout::Bucket> buckets_;
  layout::Partition trainable_;
  layout::Partition frozen_;
  core::List<int> bucket_of_unit_;
};

}  // namespace tessera
