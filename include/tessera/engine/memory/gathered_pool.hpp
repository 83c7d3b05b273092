// Stage 3: which buckets are gathered, in which slots, and which are gathered next. The prefetch window advances with
// forward and backward. Only integers and events: the caller has the memory of the slots.
//
//     forward, prefetch 2      bucket    0   1   2 [ 3 | 4   5 ] 6      3 in use, 4 and 5 in flight
//
// The order of gathers and their slots depend only on the sequence of calls, so they are the same on all ranks. How
// long a rank holds Weights does not change them: if the slot of a gather is in use, a later call posts the gather when
// the slot is free, before all gathers that follow it.
#pragma once

#include <string>

#include <tessera/core/error.hpp>
#include <tessera/core/index_queue.hpp>
#include <tessera/core/list.hpp>
#include <tessera/core/math.hpp>
#include <tessera/layout/sharding.hpp>

namespace tessera::engine {

template <class Event>
class GatheredPool {
 public:
  struct Slot {
    int bucket = -1;       ///< the bucket that is scheduled for the slot, or -1
    bool pending = false;  ///< the gather of `bucket` is not posted yet
    int holds = -1;        ///< the bucket of the last gather posted into the slot, which Weights refer to
    int leases = 0;        ///< Weights objects that refer to the slot; it is not written while there are any
    Event ready{};         ///< event of the last gather posted into the slot
  };

  /// slots: min(buckets, 1 + prefetch + units that others are tied to), as in the plan. prefetch: buckets gathered
  /// ahead of the one in use. The sharding must outlive the pool.
  constexpr GatheredPool(const Sharding& sharding, index_t slots, int prefetch)
      : sharding_(&sharding),
        slots_(to_size(slots)),
        slot_of_(to_size(sharding.buckets()), -1),
        pinned_(to_size(sharding.buckets()), 0),
        replaceable_(static_cast<int>(slots)),
        pending_(static_cast<int>(slots)),
        prefetch_(min(prefetch, sharding.buckets())) {
    for (const Unit u : sharding.layout().forward())
      if (sharding.layout().tied_to(u)) pinned_[to_size(sharding.bucket_of(u))] = true;
    drop();
  }

  constexpr Slot* begin() noexcept { return slots_.data(); }
  constexpr Slot* end() noexcept { return slots_.data() + slots_.size(); }
  constexpr index_t index(const Slot& slot) const noexcept { return &slot - slots_.data(); }

  /// Returns the slot of the unit's bucket after posting its gather, and schedules the buckets ahead of it. A unit that
  /// is tied to the one in use is gathered out of order and does not advance the window. post(slot): posts the gather
  /// of slot.bucket into the slot. Throws UsageError, and does not change the schedule, if Weights are alive in a slot
  /// that is needed now.
  template <class Post>
  constexpr Slot& gather(Unit unit, Post post) {
    const int b = sharding_->bucket_of(unit);
    const bool in_order = !sharding_->layout().tied(in_use_, unit);
    const int center = in_order ? b : center_;
    post_unblocked(post);
    Slot* slot = find(b);
    // Pending gathers may wait while their buckets are in the window. Otherwise other ranks may skip them or already
    // wait for them.
    if (const Slot* const blocked = first_pending())
      if (!slot || slot->pending || !all_pending_kept(center)) refuse(unit, *blocked);
    if (!slot) {
      slot = &victim(center);
      if (slot->leases > 0) refuse(unit, *slot);
      schedule(*slot, b);
    }
    note_use(*slot);
    if (in_order) {
      in_use_ = unit;
      center_ = center;
      for (int ahead = 1; ahead <= prefetch_; ++ahead) {
        const int next = center + ahead * direction_;
        if (next >= 0 && next < sharding_->buckets() && !find(next)) schedule(victim(center), next);
      }
    }
    post_unblocked(post);
    return *slot;
  }

  /// Posts pending gathers in the order of the schedule, up to the first slot in which Weights are alive.
  template <class Post>
  constexpr void post_unblocked(Post post) {
    for (Slot* next = first_pending(); next && next->leases == 0; next = first_pending()) {
      post(*next);
      next->pending = false;
      next->holds = next->bucket;
      pending_.remove(number(*next));
    }
  }

  /// Posts all pending gathers. Throws UsageError if Weights are alive in a slot that one needs.
  template <class Post>
  constexpr void post_all(Post post) {
    post_unblocked(post);
    if (const Slot* const blocked = first_pending()) refuse(*blocked);
  }

  /// Sets the direction of the window. 1: forward, -1: backward. Gathered buckets stay valid, because weights do not
  /// change between the two.
  constexpr void set_direction(int direction) noexcept { direction_ = direction; }

  /// Called when the weights change: invalidates all gathered buckets. No gather may be pending.
  constexpr void expire() noexcept {
    for (Slot& slot : slots_) {
      slot.ready = {};
      if (slot.bucket >= 0 && pinned_[to_size(slot.bucket)]) replaceable_.append(number(slot));
      vacate(slot);
    }
  }

  /// Resets the schedule too, because ranks that drop a step may be at different points of it.
  constexpr void drop() noexcept {
    // The type is named because nvcc 13 takes designated initializers of a dependent type as positional ones.
    for (Slot& slot : slots_) {
      vacate(slot);
      slot = Slot{.holds = slot.holds, .leases = slot.leases};
      pending_.remove(number(slot));
      replaceable_.append(number(slot));
    }
    in_use_ = Unit{-1};
    center_ = 0;
    direction_ = 1;
  }

 private:
  // Buckets of the window keep their slots, and so do gathered buckets of tied units. The plan has enough slots that
  // another one is always left for a missing bucket.
  constexpr bool kept(int b, int center) const {
    const int ahead = (b - center) * direction_;
    return (ahead >= 0 && ahead <= prefetch_) || pinned_[to_size(b)];
  }

  // The slot to reuse: an empty one, or the one used or scheduled least recently. That is the bucket farthest behind
  // the window, so that the most recent buckets are still gathered when the direction changes.
  constexpr Slot& victim(int center) {
    int s = replaceable_.front();
    while (slots_[to_size(s)].bucket >= 0 && kept(slots_[to_size(s)].bucket, center)) s = replaceable_.after(s);
    return slots_[to_size(s)];
  }

  constexpr int number(const Slot& slot) const noexcept { return static_cast<int>(index(slot)); }
  constexpr Slot* find(int b) { return slot_of_[to_size(b)] < 0 ? nullptr : &slots_[to_size(slot_of_[to_size(b)])]; }

  constexpr void vacate(Slot& slot) {
    if (slot.bucket >= 0) slot_of_[to_size(slot.bucket)] = -1;
    slot.bucket = -1;
  }

  constexpr void schedule(Slot& slot, int b) {
    vacate(slot);
    slot.bucket = b;
    slot.pending = true;
    slot_of_[to_size(b)] = number(slot);
    pending_.append(number(slot));
    note_use(slot);
  }

  constexpr void note_use(const Slot& slot) {
    if (pinned_[to_size(slot.bucket)])
      replaceable_.remove(number(slot));
    else
      replaceable_.append(number(slot));
  }

  constexpr Slot* first_pending() { return pending_.front() < 0 ? nullptr : &slots_[to_size(pending_.front())]; }

  constexpr bool all_pending_kept(int center) const {
    for (int s = pending_.front(); s >= 0; s = pending_.after(s))
      if (!kept(slots_[to_size(s)].bucket, center)) return false;
    return true;
  }

  std::string units_of(int b) const {
    const layout::Bucket& bucket = sharding_->bucket(b);
    const auto name = [&](int u) { return sharding_->layout().name(Unit{u}); };
    if (bucket.last_unit - bucket.first_unit == 1) return message({"'", name(bucket.first_unit), "'"});
    return message({"units '", name(bucket.first_unit), "' to '", name(bucket.last_unit - 1), "'"});
  }

  [[noreturn]] void refuse(Unit unit, const Slot& slot) const {
    throw UsageError(message({"gather('", sharding_->layout().name(unit), "'): the slot that it needs still holds ",
                              units_of(slot.holds),
                              ", whose Weights are alive: release earlier Weights or raise Options::prefetch"}));
  }

  [[noreturn]] void refuse(const Slot& slot) const {
    throw UsageError(message({"the gather of ", units_of(slot.bucket), ", which is prefetched, needs the slot of ",
                              units_of(slot.holds), ", whose Weights are alive: release them first"}));
  }

  const Sharding* sharding_;
  core::List<Slot> slots_;
  core::List<int> slot_of_;  // by bucket; -1: none
  core::List<char> pinned_;  // by bucket: other units are tied to one of its units
  core::IndexQueue replaceable_;  // slots without a pinned bucket: the empty ones first, then from least recently used
  core::IndexQueue pending_;      // slots whose gather is not posted yet, in the order of the schedule
  int prefetch_;
  int direction_ = 1;
  int center_ = 0;  // the bucket in use, and its unit
  Unit in_use_{-1};
};

}  // namespace tessera::engine
