// The global norm of a step and what follows from it: whether to apply, and the one number that gradients are
// multiplied by. Design section 4, points 4 and 5.
#pragma once

#include <span>

#include <tessera/core/exact_sum.hpp>
#include <tessera/core/list.hpp>
#include <tessera/layout/sharding.hpp>

namespace tessera {

/// The squares of this rank's part of the sum over all micro-batches, and the first element that is not finite.
struct SquareSum {
  ExactSum squares;
  index_t first_non_finite = -1;  ///< place in the trainable space, or -1

  /// Adds the elements of `range`, which lies in one unit and begins at a block's border. values: the range's elements.
  template <class Executor, class T>
  void add(Executor& executor, std::span<const T> values, Range range) {
    const index_t bad = executor.add_squares(values, squares);
    if (bad >= 0 && (first_non_finite < 0 || range.begin + bad < first_non_finite))
      first_non_finite = range.begin + bad;
  }
};

/// What this rank owns of each bucket, without the gaps between units.
class OwnedParts {
 public:
  OwnedParts(const Sharding& sharding, int rank) : sharding_(&sharding), rank_(rank) {
    for (int b = 0; b < sharding.buckets(); ++b)
      parts_.push_back(sharding.within_units(sharding.bucket(b), sharding.trainable().owned(b, rank)));
  }

  /// The squares of the reduced gradients, in the order in which they arrive.
  template <class Executor, class Reduce>
  SquareSum squares(Executor& executor, Reduce& reduce) const {
    SquareSum sum;
    for (int b = sharding_->buckets() - 1; b >= 0; --b) {
      const auto reduced = reduce.sum(b);
      const index_t begin = sharding_->trainable().owned(b, rank_).begin;
      for (const Range range : parts_[b]) sum.add(executor, reduced.subspan(range.begin - begin, range.size()), range);
    }
    return sum;
  }

 private:
  const Sharding* sharding_;
  int rank_;
  List<List<Range>> parts_;
};

/// The norm of the gradients' mean over `leaves` micro-batches (times the loss scale), from the squares of their sum.
inline double gradient_norm(double square_sum, double leaves) { return ::sqrt(square_sum) / leaves; }

/// What turns the sum into the clipped mean: min(1, clip_norm / (norm + 1e-6)) / leaves, rounded once.
/// Source: torch.nn.utils.clip_grad_norm_.
inline float gradient_scale(double norm, double clip_norm, double leaves) {
  return static_cast<float>(min(1.0, clip_norm / (norm + 1e-6)) / leaves);
}

}  // namespace tessera
