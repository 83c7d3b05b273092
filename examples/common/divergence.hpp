// Detects whether a training has diverged, and the first sign of it.
#pragma once

#include <cmath>
#include <cstdint>
#include <string>

namespace example {

/// A rank reports every step to it. Steps that are skipped to find the loss scale are no divergence.
class Divergence {
 public:
  /// step: from 1. loss: of the step.
  template <class Report>
  void look(std::int64_t step, double loss, const Report& report) {
    step_ = step;
    const std::string weight = report.first_non_finite_weight(), gradient = report.first_non_finite();
    const bool without_scale = report.loss_scale_exhausted() || report.loss_scale() == 1;
    const std::string of_gradient = gradient.empty() ? "" : "the gradient of '" + gradient + "' is not finite";
    now_.clear();
    if (!weight.empty())
      now_ = at(step - 1, "the update made '" + weight + "' infinite or NaN");
    else if (!std::isfinite(loss))
      now_ = at(step, "the loss is not finite" + (gradient.empty() ? "" : ", " + of_gradient));
    else if (!report.applied() && without_scale)
      now_ = at(step, of_gradient);
    if (first_.empty()) first_ = now_;
    applied_ = applied_ || report.applied();
    if (skipped_.empty() && !report.applied()) skipped_ = at(step, of_gradient);
  }

  /// Call it after the last step with the first tensor, on any rank, that is infinite or NaN, or an empty name.
  void look_at_weights(const std::string& tensor) {
    if (tensor.empty()) return;
    now_ = at(step_, "the update made '" + tensor + "' infinite or NaN");
    if (first_.empty()) first_ = now_;
  }

  /// Empty if the last step was finite and not all steps were skipped.
  std::string text() const {
    if (!now_.empty()) return first_;
    return applied_ || skipped_.empty() ? "" : "every step was skipped, " + skipped_;
  }

 private:
  static std::string at(std::int64_t step, const std::string& what) {
    return "first at step " + std::to_string(step) + ": " + what;
  }

  std::string now_, first_, skipped_;
  std::int64_t step_ = 0;
  bool applied_ = false;
};

}  // namespace example
