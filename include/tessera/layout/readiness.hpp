// Which gradients of a pass are complete, and which bucket is launched next. Buckets are launched from the last to the
// first on every rank, in whatever order backward completes them. Integers only; the caller reports errors.
#pragma once

#include <tessera/core/list.hpp>
#include <tessera/core/math.hpp>
#include <tessera/layout/range_set.hpp>
#include <tessera/layout/sharding.hpp>

namespace tessera::layout {

class Readiness {
 public:
  explicit Readiness(const Sharding& sharding)
      : sharding_(&sharding),
        unit_ready_(to_size(sharding.layout().units()), 0),
        missing_(to_size(sharding.buckets()), 0) {
    begin();
  }

  /// Starts a pass, with no gradient ready.
  void begin() {
    unit_ready_.fill(0);
    filled_.clear();
    const bool flat = sharding_->layout().is_flat();
    for (int b = 0; b < sharding_->buckets(); ++b) {
      const Bucket& bucket = sharding_->bucket(b);
      missing_[to_size(b)] = flat ? sharding_->range(b, 0).size() : bucket.last_unit - bucket.first_unit;
    }
    departed_ = sharding_->buckets();
  }

  bool ready(Unit u) const { return unit_ready_[to_size(u.index)] != 0; }

  /// Marks a unit as ready. Returns false and changes nothing if it was.
  bool mark(Unit u) {
    if (ready(u)) return false;
    unit_ready_[to_size(u.index)] = 1;
    --missing_[to_size(sharding_->bucket_of(u))];
    return true;
  }

  /// Marks a range of a flat layout as ready. Returns false and changes nothing if part of it was.
  bool mark(Range range) {
    if (range.empty()) return true;
    if (filled_.meets(range)) return false;
    for (const int b : sharding_->buckets_of(range))
      missing_[to_size(b)] -= intersect(sharding_->range(b, 0), range).size();
    filled_.add(range);
    return true;
  }

  /// Returns the next bucket to launch and counts it as launched, or -1 if its gradients are not complete.
  int depart() {
    if (departed_ == 0 || missing_[to_size(departed_ - 1)] != 0) return -1;
    return --departed_;
  }

  /// Whether every bucket is launched.
  bool complete() const { return departed_ == 0; }

  /// The last unit in order of forward use that is not ready. Requires that one is not.
  Unit first_missing() const {
    for (int u = static_cast<int>(unit_ready_.size()) - 1; u > 0; --u)
      if (!unit_ready_[to_size(u)]) return Unit{u};
    return Unit{0};
  }

 private:
  const Sharding* sharding_;
  core::List<char> unit_ready_;
  core::List<index_t> missing_;  // per bucket: units, or elements of a flat layout, that are not ready
  RangeSet filled_;        // of a flat layout: elements that are ready
  int departed_ = 0;       // buckets [departed_, buckets) are launched
};

}  // namespace tessera::layout
