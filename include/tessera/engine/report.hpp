// What a step did.
#pragma once

#include <string>
#include <utility>

#include <tessera/core/math.hpp>

namespace tessera {

class Report {
 public:
  Report(index_t step, double gradient_norm, std::string first_non_finite, double loss_scale = 1,
         bool loss_scale_exhausted = false)
      : step_(step),
        gradient_norm_(gradient_norm),
        first_non_finite_(std::move(first_non_finite)),
        loss_scale_(loss_scale),
        loss_scale_exhausted_(loss_scale_exhausted) {}

  /// Whether parameters and state were updated. False where a gradient was not finite on some rank.
  bool applied() const noexcept { return first_non_finite_.empty(); }

  /// Steps applied so far, this one included if it was.
  index_t step() const noexcept { return step_; }

  /// The global norm of the averaged gradients before clipping; without meaning where the step was not applied.
  double gradient_norm() const noexcept { return gradient_norm_; }

  /// What gradients had been multiplied by; 1 without loss scaling.
  double loss_scale() const noexcept { return loss_scale_; }

  /// Whether a gradient was not finite although the loss scale cannot be lowered any more: the model itself diverges.
  bool loss_scale_exhausted() const noexcept { return loss_scale_exhausted_; }

  /// The first tensor with a gradient that is not finite, "unit.tensor"; empty if the step was applied.
  const std::string& first_non_finite() const noexcept { return first_non_finite_; }

 private:
  index_t step_;
  double gradient_norm_;
  std::string first_non_finite_;
  double loss_scale_;
  bool loss_scale_exhausted_;
};

}  // namespace tessera
