// Which item of a list has a key, found by the key's hash. Usable in constant expressions, which std::unordered_map is
// not.
#pragma once

#include <cstddef>
#include <cstdint>

#include <tessera/core/list.hpp>
#include <tessera/core/math.hpp>

namespace tessera::core {

/// A number's upper 32 bits made to depend on all of its bits, the uppermost most of all.
/// Source: Knuth, The Art of Computer Programming, volume 3, section 6.4, multiplicative hashing.
constexpr std::uint64_t mixed_hash(std::uint64_t number) { return number * 0x9e3779b97f4a7c15u; }

/// A hash table with linear probing of the indices 0, 1, 2, ... of a list that lies elsewhere. It keeps the upper
/// 32 bits of hashes, of which the uppermost choose the slot; whoever asks compares keys.
class HashIndex {
 public:
  /// The index of an item of this hash for which same(index) holds, or -1. `same` is asked of items with the same
  /// upper 32 bits.
  template <class Same>
  constexpr int find(std::uint64_t hash, Same same) const {
    return slots_.empty() ? -1 : slots_[slot_of(upper(hash), same)].count - 1;
  }

  /// The same, and where there is none, adds the list's next item. Throws std::bad_alloc.
  template <class Same>
  constexpr int find_or_add(std::uint64_t hash, Same same) {
    if (2 * to_size(count_) >= slots_.size()) grow();
    Slot& slot = slots_[slot_of(upper(hash), same)];
    if (slot.count > 0) return slot.count - 1;
    slot = {upper(hash), ++count_};
    return -1;
  }

 private:
  struct Slot {
    std::uint32_t hash = 0;
    int count = 0;  // of items up to this one; 0: empty, as at least half of the slots are
  };

  static constexpr std::uint32_t upper(std::uint64_t hash) { return static_cast<std::uint32_t>(hash >> 32); }

  // Of the item, or the empty one where it belongs.
  template <class Same>
  constexpr std::size_t slot_of(std::uint32_t hash, Same same) const {
    const Slot* const slots = slots_.data();  // each subscript of a vector takes a constant expression more steps
    const std::size_t mask = slots_.size() - 1;
    for (std::size_t at = hash >> (32 - bits_);; at = (at + 1) & mask) {
      const Slot& slot = slots[at];
      if (slot.count == 0 || (slot.hash == hash && same(slot.count - 1))) return at;
    }
  }

  constexpr void grow() {
    List<Slot> smaller(std::size_t{2} << bits_);
    std::swap(smaller, slots_);
    ++bits_;
    const Slot* const end = smaller.data() + smaller.size();
    for (const Slot* slot = smaller.data(); slot != end; ++slot)
      if (slot->count > 0) slots_[slot_of(slot->hash, [](int) { return false; })] = *slot;
  }

  List<Slot> slots_;
  int bits_ = 2;  // log2 of the slots, once there are any
  int count_ = 0;
};

}  // namespace tessera::core
