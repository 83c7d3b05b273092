// Finds the item of a list that has a given key, by the key's hash. Usable in constant expressions, unlike
// std::unordered_map.
#pragma once

#include <cstddef>
#include <cstdint>

#include <tessera/core/list.hpp>
#include <tessera/core/math.hpp>

namespace tessera::core {

/// Multiplicative hash: the upper 32 bits depend on all bits of `number`, the uppermost bits the most.
/// Source: Knuth, The Art of Computer Programming, volume 3, section 6.4, multiplicative hashing.
constexpr std::uint64_t mixed_hash(std::uint64_t number) { return number * 0x9e3779b97f4a7c15u; }

/// A hash table with linear probing. It holds the indices 0, 1, 2, ... of a list that is stored elsewhere, and the
/// upper 32 bits of their hashes, whose leading bits select the slot. The caller compares the keys.
class HashIndex {
 public:
  /// The index of an item with this hash for which same(index) is true, or -1. Calls `same` only for items with equal
  /// upper 32 bits.
  template <class Same>
  constexpr int find(std::uint64_t hash, Same same) const {
    return slots_.empty() ? -1 : slots_[slot_of(upper(hash), same)].count - 1;
  }

  /// As find(); if there is no such item, returns -1 and adds the next index of the list. Throws std::bad_alloc.
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
    int count = 0;  // the item's index + 1, or 0: empty. At least half of the slots are empty
  };

  static constexpr std::uint32_t upper(std::uint64_t hash) { return static_cast<std::uint32_t>(hash >> 32); }

  // The slot of the item, or the empty slot where it would be added.
  template <class Same>
  constexpr std::size_t slot_of(std::uint32_t hash, Same same) const {
    const Slot* const slots = slots_.data();  // each vector subscript costs a constant expression several steps
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
  int bits_ = 2;  // log2 of the number of slots, if there are any
  int count_ = 0;
};

}  // namespace tessera::core
