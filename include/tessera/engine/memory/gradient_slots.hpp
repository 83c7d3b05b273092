// The assignment of gradient slots to buckets, stages 2 and 3. A bucket has its slot until its reduction is posted.
// Free slots are reused in the order of their reductions. Only integers and events: the caller has the memory.
#pragma once

#include <tessera/core/index_queue.hpp>
#include <tessera/core/list.hpp>
#include <tessera/core/math.hpp>

namespace tessera::engine {

template <class Event>
class GradientSlots {
 public:
  /// Memory for one bucket. bucket: the one that backward fills, or -1. reduced: after it, the last reduction has read
  /// the slot.
  struct Slot {
    int bucket = -1;
    Event reduced{};
  };

  constexpr GradientSlots(index_t slots, int buckets)
      : slots_(to_size(slots)), free_(static_cast<int>(slots)), slot_of_(to_size(buckets), -1) {
    reset();
  }

  constexpr Slot* begin() noexcept { return slots_.data(); }
  constexpr Slot* end() noexcept { return slots_.data() + slots_.size(); }
  constexpr const Slot* begin() const noexcept { return slots_.data(); }
  constexpr const Slot* end() const noexcept { return slots_.data() + slots_.size(); }
  constexpr index_t index(const Slot& slot) const noexcept { return &slot - slots_.data(); }

  /// The slot that bucket `b` fills, or null.
  constexpr Slot* find(int b) noexcept {
    return slot_of_[to_size(b)] < 0 ? nullptr : &slots_[to_size(slot_of_[to_size(b)])];
  }

  /// Assigns a slot to bucket `b`. It may be written after its `reduced` event. Null if no slot is free.
  constexpr Slot* take(int b) noexcept {
    const int slot = free_.front();
    if (slot < 0) return nullptr;
    free_.remove(slot);
    slot_of_[to_size(b)] = slot;
    slots_[to_size(slot)].bucket = b;
    return &slots_[to_size(slot)];
  }

  /// The reduction of bucket `b` is posted. Its slot may be reused after `reduced`.
  constexpr void send(int b, const Event& reduced) {
    const int slot = slot_of_[to_size(b)];
    slots_[to_size(slot)] = {-1, reduced};
    free_.append(slot);
    slot_of_[to_size(b)] = -1;
  }

  /// Frees all slots.
  constexpr void reset() {
    slots_.fill(Slot{});
    slot_of_.fill(-1);
    for (int slot = 0; slot < static_cast<int>(slots_.size()); ++slot) free_.append(slot);
  }

 private:
  core::List<Slot> slots_;
  core::IndexQueue free_;    // in the order of their reductions
  core::List<int> slot_of_;  // by bucket; -1: none
};

}  // namespace tessera::engine
