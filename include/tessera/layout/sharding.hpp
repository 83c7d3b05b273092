// A layout divided over the ranks. The range of a bucket in a space is a piece, and every piece is cut into parts, so
// that all ranks hold the same number of bytes for every rule. A shard holds the pieces of the first space, bucket by
// bucket, then those of the next space. The frozen space is the last.
//
//     buckets, two rules   | piece (0, rule 0), piece (0, rule 1) | piece (1, rule 0), piece (1, rule 1) | ...
//     shard of a rank      | parts of rule 0: bucket 0, bucket 1, ... | parts of rule 1: bucket 0, ... | frozen parts |
#pragma once

#include <tessera/core/list.hpp>
#include <tessera/core/math.hpp>
#include <tessera/layout/buckets.hpp>
#include <tessera/layout/partition.hpp>

namespace tessera {

namespace layout {

/// Consecutive elements of a space with one hyperparameter group, and the tensor of the first element.
struct Segment {
  Range place;
  int group = 0;
  Tensor tensor;
};

/// Consecutive spaces [first, last) of a layout.
struct Spaces {
  int first = 0;
  int last = 0;
};

}  // namespace layout

class Sharding {
 public:
  /// bucket_elements: see make_buckets. group_size: divides the world size; 1 unless an array is sharded over groups.
  constexpr Sharding(const Layout& layout, int world, index_t bucket_elements, int group_size = 1)
      : layout_(layout),
        buckets_(layout::make_buckets(layout_, world, bucket_elements)),
        partition_(ranges(), {world, group_size}),
        bucket_of_unit_(to_size(layout.units()), -1) {
    for (int b = 0; b < buckets(); ++b)
      for (int u = buckets_[to_size(b)].first_unit; u < buckets_[to_size(b)].last_unit; ++u)
        bucket_of_unit_[to_size(u)] = b;
  }

  constexpr const Layout& layout() const { return layout_; }
  constexpr int world() const { return partition_.world(); }
  constexpr core::Groups groups() const { return partition_.groups(); }
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
    const auto ends_before = [&](index_t b) { return this->range(static_cast<int>(b), 0).end <= range.begin; };
    const auto begins_before = [&](index_t b) { return this->range(static_cast<int>(b), 0).begin < range.end; };
    return {static_cast<int>(core::partition_point(buckets(), ends_before)),
            static_cast<int>(core::partition_point(buckets(), begins_before)), 1};
  }

  /// The spaces of rules, in which gradients and optimizer state are; all spaces; the space of one rule.
  constexpr layout::Spaces trainable() const { return {0, layout_.rules()}; }
  constexpr layout::Spaces all_spaces() const { return {0, layout_.spaces()}; }
  constexpr layout::Spaces of_rule(int rule) const { return {min(rule, layout_.rules()), min(rule + 1, layout_.rules())}; }

  /// The parts of pieces. Indexed by piece().
  constexpr const layout::Partition& partition() const { return partition_; }
  /// The index of a bucket's piece in a space.
  constexpr int piece(int b, int space) const { return space * buckets() + b; }
  /// The elements of a piece.
  constexpr Range range(int b, int space) const { return buckets_[to_size(b)].ranges[to_size(space)]; }
  /// Whether a bucket has no elements in these spaces.
  constexpr bool empty(int b, layout::Spaces spaces) const {
    for (int s = spaces.first; s < spaces.last; ++s)
      if (!range(b, s).empty()) return false;
    return true;
  }
  /// Elements of a shard of an array over `spaces` with placement `extent`.
  constexpr index_t shard_elements(layout::Spaces spaces, Extent extent = Extent::world) const {
    return partition_.shard_begin(piece(0, spaces.last), extent) -
           partition_.shard_begin(piece(0, spaces.first), extent);
  }

  /// The offset of a piece in memory for one bucket, which has the pieces one after another at multiples of `block`.
  constexpr index_t begin_in_bucket(int b, int space) const {
    index_t begin = 0;
    for (int s = 0; s < space; ++s) begin += round_up(range(b, s).size(), block);
    return begin;
  }
  /// Elements of that memory for the pieces in `spaces`, which begin with the first space, of the largest bucket.
  constexpr index_t longest_bucket(layout::Spaces spaces) const {
    index_t longest = 0;
    for (int b = 0; b < buckets(); ++b)
      longest = max(longest, begin_in_bucket(b, spaces.last - 1) + range(b, spaces.last - 1).size());
    return longest;
  }
  /// The sum of the full parts of the trainable pieces of the bucket in which it is largest.
  constexpr index_t longest_part() const {
    index_t longest = 0;
    for (int b = 0; b < buckets(); ++b) {
      index_t part = 0;
      for (int s = 0; s < layout_.rules(); ++s) part += partition_.part(piece(b, s));
      longest = max(longest, part);
    }
    return longest;
  }

  /// The subranges of `range` of a piece that belong to units, one per unit, without the padding between units.
  core::List<Range> within_units(int b, int space, Range range) const {
    core::List<Range> found;
    for (int u = bucket(b).first_unit; u < bucket(b).last_unit; ++u) {
      const Range shared = layout::intersect(layout_.range(Unit{u}, space), range);
      if (!shared.empty()) found.push_back(shared);
    }
    return found;
  }

  /// The subranges of `range` of a piece that belong to tensors. Adjacent ones of the same hyperparameter group are
  /// merged, unless each_tensor.
  core::List<layout::Segment> segments(int b, int space, Range range, bool each_tensor = false) const {
    core::List<layout::Segment> found;
    for_each_run(b, space, range, [&](Tensor t, index_t, Range run) {
      const int group = layout_.group(t);
      if (!each_tensor && !found.empty() && found.back().group == group && found.back().place.end == run.begin)
        found.back().place.end = run.end;
      else
        found.push_back({run, group, t});
    });
    return found;
  }

  /// Calls visit(tensor, element, run) for each tensor of a piece that has elements in `range`. run: those elements.
  /// element: the index of the first of them in the tensor.
  template <class Visit>
  void for_each_run(int b, int space, Range range, Visit visit) const {
    for (int u = bucket(b).first_unit; u < bucket(b).last_unit; ++u)
      for (const Tensor t : layout_.tensors(Unit{u})) {
        if (layout_.space(t) != space) continue;
        const Range place = layout_.place(t);
        const Range shared = layout::intersect(place, range);
        if (!shared.empty()) visit(t, shared.begin - place.begin, shared);
      }
  }

 private:
  constexpr core::List<Range> ranges() const {
    core::List<Range> found;
    for (int s = 0; s < layout_.spaces(); ++s)
      for (int b = 0; b < buckets(); ++b) found.push_back(range(b, s));
    return found;
  }

  Layout layout_;
  core::List<layout::Bucket> buckets_;
  layout::Partition partition_;
  core::List<int> bucket_of_unit_;
};

}  // namespace tessera
