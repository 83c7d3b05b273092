// The global gradient norm of a step, and the factor that unscales and clips gradients. Design section 4, points 4 and
// 5.
#pragma once

#include <tessera/core/list.hpp>
#include <tessera/core/math.hpp>
#include <tessera/exec/squares.hpp>
#include <tessera/layout/sharding.hpp>

namespace tessera::engine {

/// The elements of each bucket that this rank owns, without the padding between units.
class OwnedParts {
 public:
  OwnedParts(const Sharding& sharding, int rank) : sharding_(&sharding), rank_(rank) {
    for (int b = 0; b < sharding.buckets(); ++b)
      parts_.push_back(sharding.within_units(sharding.bucket(b), sharding.trainable().owned(b, rank)));
  }

  /// Adds the squares of the reduced gradients to *sum, in the order in which buckets are reduced. Offsets in *sum are
  /// those of the trainable space.
  template <class Executor, class Reduce>
  void add_squares(Executor& executor, Reduce& reduce, SquareSum* sum) const {
    for (int b = sharding_->buckets() - 1; b >= 0; --b) {
      const auto reduced = reduce.sum(b);
      const index_t begin = sharding_->trainable().owned(b, rank_).begin;
      for (const Range range : parts_[to_size(b)])
        executor.add_squares(reduced.subspan(to_size(range.begin - begin), to_size(range.size())), range.begin, sum);
    }
  }

 private:
  const Sharding* sharding_;
  int rank_;
  core::List<core::List<Range>> parts_;
};

/// The norm of the mean gradient, from the squares of the reduced gradients, which are `leaves` times the mean.
TESSERA_HD inline double gradient_norm(double square_sum, double leaves) { return ::sqrt(square_sum) / leaves; }

/// The factor from reduced gradients to the clipped mean: min(1, clip_norm / (norm + 1e-6)) / leaves, rounded once.
/// Source: torch.nn.utils.clip_grad_norm_.
TESSERA_HD inline float gradient_scale(double norm, double clip_norm, double leaves) {
  return static_cast<float>(min(1.0, clip_norm / (norm + 1e-6)) / leaves);
}

}  // namespace tessera::engine
