// The loss scale: the factor by which a float16 loss is multiplied so that small gradients do not underflow.
#pragma once

#include <tessera/layout/options.hpp>

namespace tessera::engine {

/// The loss scale, the same on every rank and changed only by advance(), which runs on the executor. It stays in the
/// range that LossScale::validate() requires. Source: DeepSpeed's DynamicLossScaler, after Micikevicius et al. 2018,
/// section 3.2; with hysteresis 1 it is torch.amp.GradScaler.
class LossScaler {
 public:
  LossScaler() = default;
  explicit LossScaler(const LossScale& options)
      : options_(options), scale_(options.initial), left_(options.hysteresis) {}

  TESSERA_HD double scale() const noexcept { return scale_; }

  /// The state that advance() changes, to be saved and restored: the scale, the overflows until it is lowered, and the
  /// steps since the last overflow.
  struct Progress {
    double scale = 1;
    int overflows_left = 1;
    index_t clean_steps = 0;
  };
  Progress progress() const noexcept { return {scale_, left_, clean_}; }
  void set_progress(const Progress& progress) noexcept {
    scale_ = progress.scale;
    left_ = progress.overflows_left;
    clean_ = progress.clean_steps;
    exhausted_ = false;
  }

  /// Called after each step. overflow: a gradient was not finite on some rank. Sets exhausted() if the scale should be
  /// lowered and cannot.
  TESSERA_HD void advance(bool overflow) noexcept {
    exhausted_ = false;
    if (!options_.dynamic) {
      exhausted_ = overflow;
      return;
    }
    if (overflow) {
      clean_ = 0;
      if (left_ > 1) {
        --left_;
        return;
      }
      exhausted_ = scale_ <= options_.least;
      scale_ = max(scale_ * options_.backoff_factor, options_.least);
      return;
    }
    const bool grows = ++clean_ % options_.growth_interval == 0;
    if (grows || options_.consecutive_hysteresis) left_ = options_.hysteresis;
    constexpr float most = 0x1.fffffep127f;  // std::numeric_limits is not available in device code
    if (grows && scale_ * options_.growth_factor <= most) scale_ *= options_.growth_factor;
  }

  TESSERA_HD bool exhausted() const noexcept { return exhausted_; }

 private:
  LossScale options_{};
  double scale_ = 1;
  int left_ = 1;       // overflows until the scale is lowered
  index_t clean_ = 0;  // steps since the last overflow
  bool exhausted_ = false;
};

}  // namespace tessera::engine
