// The fixed order of sums of design section 4.3. A binary counter holds one partial sum per set bit of the number of
// leaves added, the largest block first. A new leaf merges blocks of equal size. At the end the partial sums are folded
// from the last to the first. The partial sums can be stored and continued later, so a sum depends only on its leaves,
// not on the number of ranks or passes that contribute them.
//
//     7 leaves:   ((0 + 1) + (2 + 3)) + ((4 + 5) + 6)        held: 0..3 | 4, 5 | 6
#pragma once

#include <array>
#include <bit>
#include <concepts>
#include <cstdint>
#include <span>
#include <type_traits>

#include <tessera/core/math.hpp>
#include <tessera/exec/float_environment.hpp>
#include <tessera/exec/vectorize.hpp>

namespace tessera {

/// The type that T is summed in: integers modulo 2^64, double in double, all other types in float.
template <class T>
using SumType =
    std::conditional_t<std::integral<T>, std::uint64_t, std::conditional_t<std::same_as<T, double>, double, float>>;

/// The number of partial sums that the counter holds after `leaves` leaves.
constexpr int sums_after(index_t leaves) noexcept { return std::popcount(static_cast<std::uint64_t>(leaves)); }

/// Sums one chunk at a time, so that all partial sums stay in the first-level cache. Up to 2^31 leaves. The thread is
/// in the default floating-point environment during this object's lifetime.
template <class Sum>
class TreeSum {
 public:
  static constexpr index_t chunk = 256;

  /// The sum of `leaves` >= 1 arrays of n <= chunk elements; leaf(r) points to the first element of array r.
  /// The result is valid until the next call.
  template <class Leaf>
  const Sum* operator()(int leaves, index_t n, Leaf leaf) {
    resume(0, [](int) { return static_cast<const Sum*>(nullptr); });
    add(leaves, n, leaf);
    return fold(n);
  }

  /// Continues a sum of `leaves` leaves whose partial sums are at kept(0), kept(1), ..., the largest block first.
  template <class Kept>
  void resume(index_t leaves, Kept kept) {
    leaves_ = leaves;
    unchanged_ = depth_ = to_size(sums_after(leaves));
    for (std::size_t d = 0; d < depth_; ++d) sum_[d] = kept(static_cast<int>(d));
  }

  /// Adds n <= chunk elements of `leaves` arrays.
  template <class Leaf>
  void add(int leaves, index_t n, Leaf leaf) {
    for (int r = 0; r < leaves;) {
      if (leaves_ & 1) {
        Sum* const top = change(depth_ - 1);
        exec::vectorize(0, n, [top, a = previous_, b = leaf(r)](index_t i) { top[i] = a[i] + static_cast<Sum>(b[i]); });
        r += 1, leaves_ += 1;
      } else if (r + 1 == leaves) {
        Sum* const top = change(depth_++);
        exec::vectorize(0, n, [top, a = leaf(r)](index_t i) { top[i] = static_cast<Sum>(a[i]); });
        leaves_ += 1;
        return;
      } else {
        Sum* const top = change(depth_++);
        exec::vectorize(0, n, [top, a = leaf(r), b = leaf(r + 1)](index_t i) {
          top[i] = static_cast<Sum>(a[i]) + static_cast<Sum>(b[i]);
        });
        r += 2, leaves_ += 2;
      }
      for (index_t pair = leaves_ / 2 - 1; pair & 1; pair >>= 1) merge(n);
    }
  }

  /// Folds the partial sums, from the last to the first. Requires at least one leaf.
  const Sum* fold(index_t n) {
    while (depth_ > 1) merge(n);
    return sum_[0];
  }

  /// Writes the partial sums that changed since resume() to kept(0), kept(1), ...; the others are already there.
  template <class Kept>
  void keep(index_t n, Kept kept) const {
    for (std::size_t d = unchanged_; d < depth_; ++d)
      exec::vectorize(0, n, [to = kept(static_cast<int>(d)), a = sum_[d]](index_t i) { to[i] = a[i]; });
  }

 private:
  // Called before partial sum d is written: moves it to partial_ and sets previous_ to its old address.
  Sum* change(std::size_t d) {
    previous_ = sum_[d];
    unchanged_ = min(unchanged_, d);
    sum_[d] = partial_[d].data();
    return partial_[d].data();
  }

  void merge(index_t n) {
    const Sum* const last = sum_[--depth_];
    Sum* const top = change(depth_ - 1);
    exec::vectorize(0, n, [top, a = previous_, last](index_t i) { top[i] = a[i] + last[i]; });
  }

  exec::DefaultFloatEnvironment ieee_;
  std::array<std::array<Sum, chunk>, 64> partial_;
  std::array<const Sum*, 64> sum_;
  const Sum* previous_ = nullptr;
  index_t leaves_ = 0;
  std::size_t depth_ = 0;
  std::size_t unchanged_ = 0;  // partial sums that are still where resume() found them
};

/// out[i] = the sum of leaf(r)[i] over r, times scale, rounded once, for 0 <= i < n. `out` may be one of the leaves.
template <class Out, class Leaf>
void sum_in_tree(int leaves, index_t n, Leaf leaf, Out* out, float scale = 1) {
  using Sum = SumType<Out>;
  TreeSum<Sum> sum;
  for (index_t begin = 0; begin < n; begin += sum.chunk) {
    const index_t size = min(n - begin, sum.chunk);
    const auto* total = sum(leaves, size, [&](int r) { return leaf(r) + begin; });
    exec::vectorize(0, size, [to = out + begin, total, factor = static_cast<Sum>(scale)](index_t i) {
      TESSERA_ROUND_EACH_OPERATION
      to[i] = static_cast<Out>(total[i] * factor);
    });
  }
}

/// The same over several calls: adds leaf(0) .. leaf(leaves - 1) to the partial sums of the `before` leaves added so
/// far. The counter's partial sums are at sums, sums + stride, .... last: writes the sum to `out` as above; else writes
/// the partial sums back to `sums` and does not write `out`.
template <class Out, class Leaf>
void continue_sum_in_tree(float* sums, index_t stride, index_t before, int leaves, bool last, index_t n, Leaf leaf,
                          Out* out, float scale = 1) {
  TreeSum<float> sum;
  for (index_t begin = 0; begin < n; begin += sum.chunk) {
    const index_t size = min(n - begin, sum.chunk);
    const auto kept = [&](int d) { return sums + d * stride + begin; };
    sum.resume(before, kept);
    sum.add(leaves, size, [&](int r) { return leaf(r) + begin; });
    if (!last) {
      sum.keep(size, kept);
      continue;
    }
    const float* const total = sum.fold(size);
    exec::vectorize(0, size, [to = out + begin, total, scale](index_t i) {
      TESSERA_ROUND_EACH_OPERATION
      to[i] = static_cast<Out>(total[i] * scale);
    });
  }
}

}  // namespace tessera
