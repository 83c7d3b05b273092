// Which buckets stage 3 has gathered, in which slots, and what is fetched next: a window that travels with the model.
// Integers and events; the memory behind the slots is its owner's.
//
//     forward, prefetch 2      bucket    0   1   2 [ 3 | 4   5 ] 6      3 at work, 4 and 5 on their way
#pragma once

#include <tessera/core/list.hpp>

namespace tessera {

template <class Event>
class GatheredPool {
 public:
  /// A room for one bucket. leases: how many look at it; while there are any it stays as it is.
  struct Slot {
    int bucket = -1;
    int leases = 0;
    Event ready{};
  };

  /// prefetch: buckets fetched ahead of the one at work.
  constexpr GatheredPool(index_t slots, int buckets, int prefetch)
      : slots_(static_cast<std::size_t>(slots)), buckets_(buckets), prefetch_(min(prefetch, buckets)) {}

  constexpr Slot* begin() noexcept { return slots_.begin(); }
  constexpr Slot* end() noexcept { return slots_.end(); }
  constexpr int size() const noexcept { return static_cast<int>(slots_.size()); }
  constexpr index_t index(const Slot& slot) const noexcept { return &slot - slots_.begin(); }

  /// The slot of bucket `b`, for which fetch(slot) is called if no slot has it yet. Null if every slot is looked at.
  template <class Fetch>
  constexpr Slot* demand(int b, Fetch fetch) {
    if (Slot* slot = find(b)) return slot;
    Slot* slot = spare(true);
    if (slot) take(*slot, b, fetch);
    return slot;
  }

  /// Bucket `b` is at work: the window moves there, and fetch(slot) is called for what is new in it.
  template <class Fetch>
  constexpr void move_to(int b, Fetch fetch) {
    at_work_ = b;
    for (int ahead = 1; ahead <= prefetch_; ++ahead) {
      const int next = at_work_ + ahead * direction_;
      if (next < 0 || next >= buckets_ || find(next)) continue;
      Slot* slot = spare(false);
      if (!slot) return;
      take(*slot, next, fetch);
    }
  }

  /// The way of travel turns, 1: forward, -1: backward. Only what is looked at is kept.
  constexpr void turn(int direction) {
    direction_ = direction;
    for (Slot& slot : slots_)
      if (slot.leases == 0) slot.bucket = -1;
  }

  /// Forgets what was gathered; slots still looked at are free when the last look ends.
  constexpr void drop() noexcept {
    for (Slot& slot : slots_) slot = {-1, slot.leases, {}};
  }

 private:
  constexpr bool in_window(int b) const {
    const int ahead = (b - at_work_) * direction_;
    return ahead >= 0 && ahead <= prefetch_;
  }

  constexpr Slot* find(int b) {
    for (Slot& slot : slots_)
      if (slot.bucket == b) return &slot;
    return nullptr;
  }

  // The least missed slot that nobody looks at: an empty one, then one behind the window, then (only on demand) the
  // prefetched.
  constexpr Slot* spare(bool on_demand) {
    Slot* best = nullptr;
    int best_loss = on_demand ? 3 : 2;
    for (Slot& slot : slots_) {
      const int loss = slot.leases > 0 ? 3 : slot.bucket < 0 ? 0 : in_window(slot.bucket) ? 2 : 1;
      if (loss < best_loss) best_loss = loss, best = &slot;
    }
    return best;
  }

  template <class Fetch>
  static constexpr void take(Slot& slot, int b, Fetch& fetch) {
    slot.bucket = b;
    fetch(slot);
  }

  List<Slot> slots_;
  int buckets_;
  int prefetch_;
  int at_work_ = 0;
  int direction_ = 1;
};

}  // namespace tessera
