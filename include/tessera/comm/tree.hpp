// The fixed tree of design section 4.3: leaves are summed as a binary counter merges them, leftovers from last to
// first.
//
//     N = 7:   ((0 + 1) + (2 + 3)) + ((4 + 5) + 6)
#pragma once

#include <array>
#include <concepts>
#include <cstdint>
#include <span>
#include <type_traits>

#include <tessera/core/math.hpp>
#include <tessera/exec/float_environment.hpp>
#include <tessera/exec/vectorize.hpp>

namespace tessera {

/// The type that T is summed in: integers modulo 2^64, double in double, all else in float.
template <class T>
using SumType =
    std::conditional_t<std::integral<T>, std::uint64_t, std::conditional_t<std::same_as<T, double>, double, float>>;

/// Sums a chunk at a time, so that all partial sums stay in the first-level cache. Up to 2^31 leaves. The thread is in
/// the default floating-point environment for as long as this lives.
template <class Sum>
class TreeSum {
 public:
  static constexpr index_t chunk = 256;

  /// The sum of n <= chunk elements of `leaves` >= 1 arrays; leaf(r) points to the first of the r-th.
  /// The result stands until the next call.
  template <class Leaf>
  const Sum* operator()(int leaves, index_t n, Leaf leaf) {
    std::size_t depth = 0;
    for (int r = 0; r < leaves; r += 2) {
      Sum* const top = partial_[depth++].data();
      if (r + 1 == leaves) {
        vectorize(0, n, [top, a = leaf(r)](index_t i) { top[i] = static_cast<Sum>(a[i]); });
        break;
      }
      vectorize(0, n, [top, a = leaf(r), b = leaf(r + 1)](index_t i) {
        top[i] = static_cast<Sum>(a[i]) + static_cast<Sum>(b[i]);
      });
      for (int pair = r / 2; pair & 1; pair >>= 1) merge(--depth, n);
    }
    while (depth > 1) merge(--depth, n);
    return partial_[0].data();
  }

 private:
  void merge(std::size_t from, index_t n) {
    vectorize(0, n, [to = partial_[from - 1].data(), a = partial_[from].data()](index_t i) { to[i] = to[i] + a[i]; });
  }

  DefaultFloatEnvironment ieee_;
  std::array<std::array<Sum, chunk>, 32> partial_;
};

/// out[i] = the sum of leaf(r)[i] over r, times scale, rounded once, for 0 <= i < n. `out` may be one of the leaves
/// itself.
template <class Out, class Leaf>
void sum_in_tree(int leaves, index_t n, Leaf leaf, Out* out, float scale = 1) {
  using Sum = SumType<Out>;
  TreeSum<Sum> sum;
  for (index_t begin = 0; begin < n; begin += sum.chunk) {
    const index_t size = n - begin < sum.chunk ? n - begin : sum.chunk;
    const auto* total = sum(leaves, size, [&](int r) { return leaf(r) + begin; });
    vectorize(0, size, [to = out + begin, total, factor = static_cast<Sum>(scale)](index_t i) {
      TESSERA_ROUND_EACH_OPERATION
      to[i] = static_cast<Out>(total[i] * factor);
    });
  }
}

}  // namespace tessera
