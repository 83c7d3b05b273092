// Which buckets stage 3 has gathered, in which slots, and which are gathered next: a prefetch window that moves with
// the model. Integers and events; the memory of the slots belongs to the pool's owner.
//
//     forward, prefetch 2      bucket    0   1   2 [ 3 | 4   5 ] 6      3 in use, 4 and 5 on their way
//
// What is gathered, in which order and into which slot, follows from the calls alone, so that it is the same on all
// ranks. How long a rank keeps Weights never changes it: a gather whose slot is in use is posted by a later call, when
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
    int bucket = -1;       ///< whose slot it is
    bool pending = false;  ///< its gather is not posted yet
    int holds = -1;        ///< the bucket that Weights of this slot see
    int leases = 0;        ///< Weights of this slot that are alive; it is not written while there are any
    Event ready{};         ///< of the last gather posted into it
  };

  /// slots: min(buckets, 1 + prefetch + units that others are tied to), as the plan has it. prefetch: buckets gathered
  /// ahead of the one in use. The sharding outlives the pool.
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

  /// The slot of the unit's bucket, whose gather is posted, and those of the buckets ahead of it. A unit that is tied
  /// to the one in use is gathered out of order and does not move the window. post(slot): posts the gather of
  /// slot.bucket into the slot. Throws UsageError, and leaves the schedule as it was, if Weights are alive in a slot
  /// that it needs now.
  template <class Post>
  constexpr Slot& gather(Unit unit, Post post) {
    const int b = sharding_->bucket_of(unit);
    const bool in_order = !sharding_->layout().tied(in_use_, unit);
    const int center = in_order ? b : center_;
    post_unblocked(post);
    Slot* slot = find(b);
    // What is pending can wait while it is ahead; else others may have no use for it, or wait for it already.
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

  /// Posts what is pending, in the order of the schedule, up to a slot in which Weights are alive.
  template <class Post>
  constexpr void post_unblocked(Post post) {
    for (Slot* next = first_pending(); next && next->leases == 0; next = first_pending()) {
      post(*next);
      next->pending = false;
      next->holds = next->bucket;
      pending_.remove(number(*next));
    }
  }

  /// Posts all that is pending. Throws UsageError where Weights are alive in a slot that it needs.
  template <class Post>
  constexpr void post_all(Post post) {
    post_unblocked(post);
    if (const Slot* const blocked = first_pending()) refuse(*blocked);
  }

  /// 1: forward, -1: backward. What was gathered stays: weights do not change between them.
  constexpr void set_direction(int direction) noexcept { direction_ = direction; }

  /// The weights change: what was gathered is of no use. Nothing may be pending.
  constexpr void expire() noexcept {
    for (Slot& slot : slots_) {
      slot.ready = {};
      if (slot.bucket >= 0 && pinned_[to_size(slot.bucket)]) replaceable_.append(number(slot));
      vacate(slot);
    }
  }

  /// Forgets the schedule too: ranks that drop a step have not all come equally far.
  constexpr void drop() noexcept {
    // (named: nvcc 13 takes designated initializers for positional ones where it does not know the type)
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
  // The window's buckets keep their slots, and so do those that ties gather out of order, once they are there. There is
  // always a slot beside them for one that is missing: plan.hpp counts so.
  constexpr bool kept(int b, int center) const {
    const int ahead = (b - center) * direction_;
    return (ahead >= 0 && ahead <= prefetch_) || pinned_[to_size(b)];
  }

  // Taken from the others: an empty slot, or the one that was used or scheduled least recently. In order of travel that
  // is the one farthest behind, so that the last ones are there when the direction turns.
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
  core::List<char> pinned_;  // by bucket: a unit of it is tied to by others
  core::IndexQueue replaceable_;  // slots of no pinned bucket: the empty ones in front, then the one used least recently
  core::IndexQueue pending_;      // slots whose gather is not posted yet, in the order of the schedule
  int prefetch_;
  int direction_ = 1;
  int center_ = 0;  // the bucket in use, and its unit
  Unit in_use_{-1};
};

}  // namespace tessera::engine
