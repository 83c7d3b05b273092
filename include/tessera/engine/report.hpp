// What a step did.
#pragma once

#include <string>
#include <utility>

#include <tessera/core/math.hpp>

namespace tessera {

class Report {
 public:
  Report(index_t step, double gradient_norm, std::string first_non_finite)
      : step_(step), gradient_norm_(gradient_norm), first_non_finite_(std::move(first_non_finite)) {}

  /// Whether parameters and state were updated. False where a gradient was not finite on some rank.
  bool applied() const noexcept { return first_non_finite_.empty(); }

  /// Steps applied so far, this one included if it was.
  index_t step() const noexcept { return step_; }

  /// The global norm of the averaged gradients before clipping; without meaning where the step was not applied.
  double gradient_norm() const noexcept { return gradient_norm_; }

  /// What gradients had been multiplied by; 1 without loss scaling.
  double loss_scale() const noexcept { return 1; }

  /// The first tensor with a gradient that is not finite, "unit.tensor"; empty if the step was applied.
  const std::string& first_non_finite() const noexcept { return first_non_finite_; }

 private:
  index_t step_;
  double gradient_norm_;
  std::string first_non_finite_;
};

}  // namespace tessera
