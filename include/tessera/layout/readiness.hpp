// Which gradients of a pass are complete, and which bucket departs next: always the last first, on every rank alike,
// whatever order backward fills them in. Integers only; says what is, and leaves the message to who asked.
#pragma once

#include <tessera/core/list.hpp>
#include <tessera/layout/sharding.hpp>

namespace tessera {

class Readiness {
 public:
  explicit Readiness(const Sharding& sharding)
      : sharding_(&sharding), unit_ready_(sharding.layout().units()), missing_(sharding.buckets()) {
    filled_.reserve(64);
    begin();
  }

  /// Starts a pass: nothing is ready.
  void begin() {
    unit_ready_.fill(0);
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
    const std::size_t next = first_behind(range.begin);
    if (next < filled_.size() && filled_[next].begin < range.end) return false;
    for (const int b : sharding_->buckets_of(range))
      missing_[b] -= intersect(sharding_->bucket(b).trainable, range).size();
    join(next, range);
    return true;
  }

  /// The bucket that departs now, or -1. Each call hands out one.
  int depart() {
    if (departed_ == 0 || missing_[departed_ - 1] != 0) return -1;
    return --departed_;
  }

  /// Whether every bucket has departed.
  bool complete() const { return departed_ == 0; }

  /// The last unit in order of forward use that is not ready; only while not complete.
  Unit first_missing() const {
    for (int u = static_cast<int>(unit_ready_.size()) - 1; u > 0; --u)
      if (!unit_ready_[u]) return Unit{u};
    return Unit{0};
  }

 private:
  // The first filled range that ends behind `begin`.
  std::size_t first_behind(index_t begin) const {
    const auto ends_before = [&](index_t i) { return filled_[i].end <= begin; };
    return to_size(partition_point(std::ssize(filled_), ends_before));
  }

  // Neighbours are merged, so that a buffer filled from its end keeps the list at one entry.
  void join(std::size_t at, Range range) {
    const bool left = at > 0 && filled_[at - 1].end == range.begin;
    const bool right = at < filled_.size() && filled_[at].begin == range.end;
    if (left && right) {
      filled_[at - 1].end = filled_[at].end;
      filled_.erase(at);
    } else if (left) {
      filled_[at - 1].end = range.end;
    } else if (right) {
      filled_[at].begin = range.begin;
    } else {
      filled_.insert(at, range);
    }
  }

  const Sharding* sharding_;
  List<char> unit_ready_;
  List<index_t> missing_;  // units, or elements of a flat layout, that bucket b still waits for
  List<Range> filled_;     // of a flat layout, in order, disjoint
  int departed_ = 0;       // buckets [departed_, buckets) have left
};

}  // namespace tessera
