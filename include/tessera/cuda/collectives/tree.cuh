// The fixed tree of comm/tree.hpp in a kernel, with the same bits: additions alone, which no compiler fuses.
#pragma once

#include <cstdint>

#include <tessera/comm/tree.hpp>
#include <tessera/core/config.hpp>

namespace tessera::collectives {

/// n elements that are loaded and stored by accesses of 16 bytes, or by one if they are fewer.
template <class T, int n>
struct alignas(n * sizeof(T) < 16 ? n * sizeof(T) : 16) Pack {
  T element[to_size(n)];
};

/// So many elements are 16 bytes.
template <class T>
inline constexpr int pack_elements = 16 / sizeof(T);

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
  for (int k = 0; k < n; ++k) to.element[k] = static_cast<To>(from.element[k]);
  return to;
}

template <class Sum, int n>
TESSERA_HD Pack<Sum, n> operator+(const Pack<Sum, n>& a, const Pack<Sum, n>& b) {
  Pack<Sum, n> sum;
  for (int k = 0; k < n; ++k) sum.element[k] = a.element[k] + b.element[k];
  return sum;
}

template <class T, int n>
TESSERA_HD Pack<T, n> scaled(const Pack<T, n>& by_one, float scale) {
  Pack<T, n> product;
  for (int k = 0; k < n; ++k) product.element[k] = by_one.element[k] * static_cast<T>(scale);
  return product;
}

/// The sum of leaf(first) .. leaf(first + leaves - 1), each a Pack, in the tree, of a power of two of them: without a
/// loop, so that all are loaded before the first sum.
template <int first, int leaves, class Leaf>
TESSERA_HD auto sum_in_tree(const Leaf& leaf) {
  static_assert((leaves & (leaves - 1)) == 0);
  if constexpr (leaves == 1)
    return leaf(first);
  else
    return sum_in_tree<first, leaves / 2>(leaf) + sum_in_tree<first + leaves / 2, leaves / 2>(leaf);
}

/// The same of leaf(0) .. leaf(leaves - 1), fewer than 128, by a binary counter: level l holds the sum of 2^l leaves
/// while bit l of their number is set. Every index is a constant of an unrolled loop, so that the levels are registers.
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

/// Whether a Pack of as many elements as 16 bytes of an In hold may lie here.
template <class In, class T>
bool is_aligned(const T* memory) noexcept {
  return reinterpret_cast<std::uintptr_t>(memory) % alignof(Pack<T, pack_elements<In>>) == 0;
}

}  // namespace tessera::collectives
