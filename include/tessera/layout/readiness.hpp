// Which gradients of a pass are complete, and which bucket departs next: always the last first, on every rank alike,
// whatever order backward fills them in. Integers only; says what is, and leaves the message to who asked.
#pragma once

#include <algorithm>
#include <vector>

#include <tessera/layout/sharding.hpp>

namespace tessera {

class Readiness {
 public:
  explicit Readiness(const Sharding& sharding) : sharding_(&sharding) {
    unit_ready_.resize(sharding.layout().units());
    missing_.resize(sharding.buckets());
    filled_.reserve(64);
    begin();
  }

  /// Starts a pass: nothing is ready.
  void begin() {
    std::fill(unit_ready_.begin(), unit_ready_.end(), char{0});
    filled_.clear();
    const bool flat = sharding_->layout().is_flat();
    for (int b = 0; b < sharding_->buckets(); ++b) {
      const Bucket& bucket = sharding_->bucket(b);
      missing_[b] = flat ? bucket.trainable.size() : bucket.last_unit - bucket.first_unit;
    }
    departed_ = sharding_->buckets();
  }

  bool ready(Unit u) const { return unit_ready_[u.index] != 0; }

  /// Marks a unit. False, and nothing changes, if it was ready.
  bool mark(Unit u) {
    if (ready(u)) return false;
    unit_ready_[u.index] = 1;
    --missing_[sharding_->bucket_of(u)];
    return true;
  }

  /// Marks a range of a flat layout. False, and nothing changes, if part of it was ready.
  bool mark(Range range) {
    if (range.empty()) return true;
    const auto next = std::lower_bound(filled_.begin(), filled_.end(), range.begin,
                                       [](const Range& known, index_t begin) { return known.end <= begin; });
    if (next != filled_.end() && next->begin < range.end) return false;
    for (int b = 0; b < sharding_->buckets(); ++b)
      missing_[b] -= intersect(sharding_->bucket(b).trainable, range).size();
    join(next - filled_.begin(), range);
    return true;
  }

  /// The bucket that departs now, or -1. Each call hands out one.
  int depart() {
    if (departed_ == 0 || missing_[departed_ - 1] != 0) return -1;
    return --departed_;
  }

  /// Whether every bucket has departed.
  bool complete() const { return departed_ == 0; }

  /// Whether bucket `b` has departed in this pass.
  bool departed(int b) const { return b >= departed_; }

  /// The last unit in order of forward use that is not ready; only while not complete.
  Unit first_missing() const {
    for (int u = static_cast<int>(unit_ready_.size()) - 1; u > 0; --u)
      if (!unit_ready_[u]) return Unit{u};
    return Unit{0};
  }

 private:
  // Neighbours are merged, so that a buffer filled from its end keeps the list at one entry.
  void join(std::ptrdiff_t at, Range range) {
    const bool left = at > 0 && filled_[at - 1].end == range.begin;
    const bool right = at < static_cast<std::ptrdiff_t>(filled_.size()) && filled_[at].begin == range.end;
    if (left && right) {
      filled_[at - 1].end = filled_[at].end;
      filled_.erase(filled_.begin() + at);
    } else if (left) {
      filled_[at - 1].end = range.end;
    } else if (right) {
      filled_[at].begin = range.begin;
    } else {
      filled_.insert(filled_.begin() + at, range);
    }
  }

  const Sharding* sharding_;
  std::vector<char> unit_ready_;
  std::vector<index_t> missing_;  // units, or elements of a flat layout, that bucket b still waits for
  std::vector<Range> filled_;     // of a flat layout, in order, disjoint
  int departed_ = 0;              // buckets [departed_, buckets) have left
};

}  // namespace tessera
