// The global gradient norm of a step, and the factor that unscales and clips gradients. Design section 4, points 4 and
// 5.
#pragma once

#include <tessera/core/list.hpp>
#include <tessera/core/math.hpp>
#include <tessera/exec/squares.hpp>
#include <tessera/layout/sharding.hpp>

namespace tessera::engine {

/// The elements of each trainable piece that this rank owns, without the padding between units.
class OwnedParts {
 public:
  OwnedParts(const Sharding& sharding, int rank) : sharding_(&sharding) {
    for (int s = 0; s < sharding.layout().rules(); ++s)
      for (int b = 0; b < sharding.buckets(); ++b)
        parts_.push_back(sharding.within_units(b, s, sharding.partition().owned(sharding.piece(b, s), rank)));
  }

  /// Adds the squares of the reduced gradients to *sum, in the order in which buckets are reduced. Offsets in *sum are
  /// those of the flat space.
  template <class Executor, class Reduce>
  void add_squares(Executor& executor, Reduce& reduce, SquareSum* sum) const {
    for (int b = sharding_->buckets() - 1; b >= 0; --b) {
      reduce.wait(b);
      for (int s = 0; s < sharding_->layout().rules(); ++s) {
        const int p = sharding_->piece(b, s);
        for (const Range range : parts_[to_size(p)]) executor.add_squares(reduce.sum(p, range), range.begin, sum);
      }
    }
  }

 private:
  const Sharding* sharding_;
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
