// The fixed order of comm/tree.hpp in a kernel, with the same bits: only additions, which no compiler fuses. If a sum
// takes several calls, memory holds the partial sums of the binary counter between calls, as on the host.
#pragma once

#include <bit>
#include <cstdint>

#include <tessera/comm/call.hpp>
#include <tessera/comm/tree.hpp>
#include <tessera/core/config.hpp>
#include <tessera/exec/pack.hpp>

namespace tessera::collectives {

using exec::Pack;
using exec::pack_elements;

template <int n, class T>
TESSERA_HD Pack<T, n> load(const T* from) {
  return *reinterpret_cast<const Pack<T, n>*>(from);
}

template <class T, int n>
TESSERA_HD void store(T* to, const Pack<T, n>& values) {
  *reinterpret_cast<Pack<T, n>*>(to) = values;
}

template <class To, class From, int n>
TESSERA_HD Pack<To, n> converted(const Pack<From, n>& from) {
  Pack<To, n> to;
  for (int k = 0; k < n; ++k) to.of[k] = static_cast<To>(from.of[k]);
  return to;
}

template <class Sum, int n>
TESSERA_HD Pack<Sum, n> operator+(const Pack<Sum, n>& a, const Pack<Sum, n>& b) {
  Pack<Sum, n> sum;
  for (int k = 0; k < n; ++k) sum.of[k] = a.of[k] + b.of[k];
  return sum;
}

template <class T, int n>
TESSERA_HD Pack<T, n> scaled(const Pack<T, n>& by_one, float scale) {
  Pack<T, n> product;
  for (int k = 0; k < n; ++k) product.of[k] = by_one.of[k] * static_cast<T>(scale);
  return product;
}

/// The tree sum of leaf(first) .. leaf(first + leaves - 1), each a Pack. leaves: a power of two. Not a loop, so that
/// all leaves are loaded before the first addition.
template <int first, int leaves, class Leaf>
TESSERA_HD auto sum_in_tree(const Leaf& leaf) {
  static_assert((leaves & (leaves - 1)) == 0);
  if constexpr (leaves == 1)
    return leaf(first);
  else
    return sum_in_tree<first, leaves / 2>(leaf) + sum_in_tree<first + leaves / 2, leaves / 2>(leaf);
}

/// The tree sum of leaf(0) .. leaf(leaves - 1), fewer than 128 leaves, by a binary counter: level l holds the sum of
/// 2^l leaves if bit l of the count is set. The loops are unrolled and every index is a constant, so levels are
/// registers.
template <class Leaf>
TESSERA_HD auto sum_in_tree(int leaves, const Leaf& leaf) {
  constexpr int levels = 7;
  using Sum = decltype(leaf(0));
  Sum level[levels] = {};
  for (int r = 0; r < leaves; ++r) {
    Sum carry = leaf(r);
    bool placed = false;
    for (int l = 0; l < levels; ++l) {
      if (placed) continue;
      placed = !(r >> l & 1);
      if (placed)
        level[l] = carry;
      else
        carry = level[l] + carry;
    }
  }
  Sum total{};
  bool begun = false;
  for (int l = 0; l < levels; ++l) {
    if (!(leaves >> l & 1)) continue;
    total = begun ? level[l] + total : level[l];
    begun = true;
  }
  return total;
}

/// The index of the lowest and of the highest set bit of x, not zero; and the number of set bits.
TESSERA_HD inline int lowest_bit(std::uint64_t x) noexcept {
#if TESSERA_DEVICE_CODE
  return __ffsll(static_cast<long long>(x)) - 1;
#else
  return std::countr_zero(x);
#endif
}
TESSERA_HD inline int highest_bit(std::uint64_t x) noexcept {
#if TESSERA_DEVICE_CODE
  return 63 - __clzll(static_cast<long long>(x));
#else
  return static_cast<int>(std::bit_width(x)) - 1;
#endif
}
TESSERA_HD inline int set_bits(std::uint64_t x) noexcept {
#if TESSERA_DEVICE_CODE
  return __popcll(x);
#else
  return std::popcount(x);
#endif
}

/// The tree sum of leaf(first) .. leaf(first + 2^level - 1), at most 8 * 2^levels leaves: groups of 8 without a branch,
/// and a binary counter over the groups. Each level of the counter needs the registers of one pack.
template <int levels, class Leaf>
TESSERA_HD auto sum_of_block(int first, int level, const Leaf& leaf) {
  const auto from = [&](int r) { return leaf(first + r); };
  switch (level) {
    case 0: return leaf(first);
    case 1: return sum_in_tree<0, 2>(from);
    case 2: return sum_in_tree<0, 4>(from);
    case 3: return sum_in_tree<0, 8>(from);
    default: break;
  }
  using Sum = decltype(leaf(first));
  Sum held[to_size(levels)] = {};
  const int eights = 1 << (level - 3);
  for (int e = 0;; ++e) {
    Sum carry = sum_in_tree<0, 8>([&](int r) { return leaf(first + 8 * e + r); });
    bool placed = false;
    for (int l = 0; l < levels; ++l) {  // unrolled, so that every index is a constant and levels are registers
      if (placed) continue;
      placed = !(e >> l & 1);
      if (placed)
        held[l] = carry;
      else
        carry = held[l] + carry;
    }
    if (e + 1 == eights) return carry;
  }
}

/// As `world`: any number of ranks, also more than 64.
inline constexpr int many_ranks = -1;

/// Elements [i, i + n) of one call of a sum. leaf(r): rank r's Pack<Sum, n> there. carry: counts ranks as leaves. sums:
/// this slice's partial sums, as in continue_sum_in_tree of comm/tree.hpp. world: 0 is any number up to 64, many_ranks
/// any up to 2^13 - 1; else a power of two where every rank has a leaf: one block, which is merged with the partial
/// sums in memory.
template <int world, int n, class Sum, class Leaf, class Out>
TESSERA_HD void continue_sum(const Carry& carry, Sum* sums, index_t i, const Leaf& leaf, float scale, Out* out) {
  const auto kept = [&](int d) { return load<n>(sums + d * carry.stride + i); };
  const auto keep = [&](int d, const Pack<Sum, n>& sum) { store(sums + d * carry.stride + i, sum); };
  const auto finish = [&](const Pack<Sum, n>& sum) { store(out + i, converted<Out>(scaled(sum, scale))); };
  const auto before = static_cast<std::uint64_t>(carry.before);
  int depth = set_bits(before);
  if constexpr (world > 0) {
    const int merges = carry.last ? depth : lowest_bit(~(before / world));
    auto sum = sum_in_tree<0, world>(leaf);
    for (int m = 0; m < merges; ++m) sum = kept(--depth) + sum;
    if (carry.last)
      finish(sum);
    else
      keep(depth, sum);
  } else {
    const auto block_sum = [&](std::uint64_t first, int level) {
      return sum_of_block<world == many_ranks ? 9 : 3>(static_cast<int>(first - before), level, leaf);
    };
    // First loop (upwards): each block of leaves completes a stored partial sum. Later loops (downwards): each block of
    // leaves is a partial sum of its own.
    const std::uint64_t end = before + static_cast<std::uint64_t>(carry.leaves);
    std::uint64_t at = before;
    Pack<Sum, n> front{};
    bool begun = false;
    while (at != 0 && at + (at & (0 - at)) <= end) {
      const int level = lowest_bit(at);
      auto sum = block_sum(at, level);
      at += std::uint64_t{1} << level;
      sum = begun ? front + sum : kept(--depth) + sum;
      for (begun = true; depth > set_bits(at) - 1;) sum = kept(--depth) + sum;
      front = sum;
    }
    if (carry.last) {
      Pack<Sum, n> total{};
      bool some = false;
      for (std::uint64_t to = end; to > at;) {
        const int level = lowest_bit(to - at);
        to -= std::uint64_t{1} << level;
        const auto sum = block_sum(to, level);
        total = some ? sum + total : sum;
        some = true;
      }
      if (begun) total = some ? front + total : front;
      while (depth > 0) total = kept(--depth) + total;
      finish(total);
    } else {
      if (begun) keep(depth++, front);
      while (at < end) {
        const int level = highest_bit(end - at);
        keep(depth++, block_sum(at, level));
        at += std::uint64_t{1} << level;
      }
    }
  }
}

/// Whether the address is aligned for a Pack of as many T as In elements fit in 16 bytes.
template <class In, class T>
bool is_aligned(const T* memory) noexcept {
  return reinterpret_cast<std::uintptr_t>(memory) % alignof(Pack<T, pack_elements<In>>) == 0;
}

}  // namespace tessera::collectives
