// The fixed order of design section 4.3. A binary counter goes through the leaves: it holds one sum per set bit of
// their count, the largest block first, and a new leaf merges blocks of the same size. At the end the sums are folded
// from the last to the first. What is held after some leaves can be stored and continued later, so a sum depends on its
// leaves alone, and neither on how many ranks bring them nor in how many passes.
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

/// The type that T is summed in: integers modulo 2^64, double in double, all else in float.
template <class T>
using SumType =
    std::conditional_t<std::integral<T>, std::uint64_t, std::conditional_t<std::same_as<T, double>, double, float>>;

/// The sums that the counter holds after so many leaves.
constexpr int sums_after(index_t leaves) noexcept { return std::popcount(static_cast<std::uint64_t>(leaves)); }

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
    resume(0, [](int) { return static_cast<const Sum*>(nullptr); });
    add(leaves, n, leaf);
    return fold(n);
  }

  /// Continues after `leaves`, whose sums lie at kept(0), kept(1), ..., the largest block first.
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

  /// Folds what is held, from the last to the first. At least one leaf was added.
  const Sum* fold(index_t n) {
    while (depth_ > 1) merge(n);
    return sum_[0];
  }

  /// Writes the sums that have changed since resume() to kept(0), kept(1), ...; the others lie there.
  template <class Kept>
  void keep(index_t n, Kept kept) const {
    for (std::size_t d = unchanged_; d < depth_; ++d)
      exec::vectorize(0, n, [to = kept(static_cast<int>(d)), a = sum_[d]](index_t i) { to[i] = a[i]; });
  }

 private:
  // The d-th sum is about to be written: it lies in partial_ from now on, and where it lay before is previous_.
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
  std::size_t unchanged_ = 0;  // sums that lie where resume() found them
};

/// out[i] = the sum of leaf(r)[i] over r, times scale, rounded once, for 0 <= i < n. `out` may be one of the leaves
/// itself.
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

/// The same over several calls: adds leaf(0) .. leaf(leaves - 1) to the sums of the `before` leaves added so far. These
/// lie at sums, sums + stride, ..., as the counter holds them. last: the sum goes to `out` as above; else what the
/// counter then holds goes to `sums`, and `out` is not written.
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
