// Reports: the outcome of a step, and of finish().
#pragma once

#include <string>
#include <utility>

#include <tessera/engine/step/step_decision.hpp>
#include <tessera/exec/host.hpp>
#include <tessera/layout/layout.hpp>

namespace tessera {

/// The outcome of a step, read when a member is called. On an asynchronous executor, members block until the step is
/// decided. They throw CommError if it could not be, and AgreementError if ranks differed and nothing was applied. Must
/// not outlive the optimizer.
template <class Executor>
class StepReport {
 public:
  using ReadBack = typename Executor::template ReadBack<engine::StepOutcome>;

  using Event = typename Executor::Event;

  /// agreed: the event of the exchange that the outcome depends on. attempt: the number of the step, which also counts
  /// skipped steps.
  StepReport(ReadBack outcome, const Event& agreed, const Layout& layout, index_t attempt)
      : outcome_(std::move(outcome)), agreed_(agreed), layout_(&layout), attempt_(attempt) {}

  /// Whether parameters and state were updated. False if a gradient was not finite on some rank.
  bool applied() const { return get().applied; }

  /// The number of steps applied so far, including this one if it was.
  index_t step() const { return get().steps; }

  /// The global norm of the mean gradient before clipping; NaN if a gradient is not finite.
  double gradient_norm() const { return get().gradient_norm; }

  /// The loss scale of this step's gradients; 1 without loss scaling.
  double loss_scale() const { return get().loss_scale; }

  /// Whether a gradient was not finite and the loss scale cannot be lowered further, so that the model diverges.
  bool loss_scale_exhausted() const { return get().loss_scale_exhausted; }

  /// The first tensor with a gradient that is not finite, "unit.tensor"; empty if the step was applied.
  std::string first_non_finite() const {
    return name_at(get().first_non_finite);
  }

  /// The first tensor, on any rank, with a parameter that an update made infinite or NaN; empty if there is none. The
  /// reports of the steps after that update say so, until new weights are brought in; the report of its own step does
  /// not know it yet.
  std::string first_non_finite_weight() const { return name_at(get().first_non_finite_weight); }

 private:
  std::string name_at(index_t place) const { return place < 0 ? std::string() : layout_->name_at(place); }

  engine::StepOutcome get() const {
    const engine::StepOutcome outcome = outcome_.get();
    if constexpr (!Executor::synchronous) agreed_.wait();  // throws if the collective failed: no valid outcome
    engine::require_agreement(outcome, attempt_);
    return outcome;
  }

  ReadBack outcome_;
  Event agreed_;
  const Layout* layout_;
  index_t attempt_;
};

/// What finish() found, read when a member is called, which blocks on an asynchronous executor. Must not outlive the
/// optimizer.
template <class Executor>
class WeightsReport {
 public:
  using ReadBack = typename Executor::template ReadBack<engine::LowestPlace>;

  WeightsReport(ReadBack first, const Layout& layout) : first_(std::move(first)), layout_(&layout) {}

  /// The first tensor with a parameter that an update of this rank made infinite or NaN; empty if there is none.
  std::string first_non_finite_weight() const {
    const std::uint64_t place = first_.get().place;
    return place == SquareSum::none ? std::string() : layout_->name_at(static_cast<index_t>(place));
  }

 private:
  ReadBack first_;
  const Layout* layout_;
};

namespace engine {

/// The report on the host, where a step is decided when step() returns.
using Report = StepReport<Host>;

}  // namespace engine

}  // namespace tessera
