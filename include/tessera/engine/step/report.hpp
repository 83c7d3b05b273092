// What a step did.
#pragma once

#include <string>
#include <utility>

#include <tessera/engine/step/step_decision.hpp>
#include <tessera/exec/host.hpp>
#include <tessera/layout/layout.hpp>

namespace tessera {

/// Reads what a step came to when it is asked. On an executor that is not synchronous a question blocks until the step
/// has been decided, and throws CommError where it could not be, AgreementError where ranks differed (nothing was
/// applied then). Must not outlive the optimizer.
template <class Executor>
class StepReport {
 public:
  using ReadBack = typename Executor::template ReadBack<engine::StepOutcome>;

  using Event = typename Executor::Event;

  /// agreed: the exchange that the outcome rests on. attempt: the step as its messages count it, skipped ones included.
  StepReport(ReadBack outcome, const Event& agreed, const Layout& layout, index_t attempt)
      : outcome_(std::move(outcome)), agreed_(agreed), layout_(&layout), attempt_(attempt) {}

  /// Whether parameters and state were updated. False where a gradient was not finite on some rank.
  bool applied() const { return get().applied; }

  /// Steps applied so far, this one included if it was.
  index_t step() const { return get().steps; }

  /// The global norm of the averaged gradients before clipping; NaN where a gradient is not finite.
  double gradient_norm() const { return get().gradient_norm; }

  /// What gradients had been multiplied by; 1 without loss scaling.
  double loss_scale() const { return get().loss_scale; }

  /// Whether a gradient was not finite although the loss scale cannot be lowered any more: the model itself diverges.
  bool loss_scale_exhausted() const { return get().loss_scale_exhausted; }

  /// The first tensor with a gradient that is not finite, "unit.tensor"; empty if the step was applied.
  std::string first_non_finite() const {
    return name_at(get().first_non_finite);
  }

  /// The first tensor, on any rank, with a parameter that an update made infinite or NaN; empty if there is none. An
  /// update's own report cannot know: it is in that of the next step, and in those after it until weights come in anew.
  std::string first_non_finite_weight() const { return name_at(get().first_non_finite_weight); }

 private:
  std::string name_at(index_t place) const { return place < 0 ? std::string() : layout_->name_at(place); }

  engine::StepOutcome get() const {
    const engine::StepOutcome outcome = outcome_.get();
    if constexpr (!Executor::synchronous) agreed_.wait();  // of a collective that failed the outcome says anything
    engine::require_agreement(outcome, attempt_);
    return outcome;
  }

  ReadBack outcome_;
  Event agreed_;
  const Layout* layout_;
  index_t attempt_;
};

/// What finish() found, read when it is asked, which blocks on an executor that is not synchronous. Must not outlive
/// the optimizer.
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

/// On the host, where a step has been decided when step() returns.
using Report = StepReport<Host>;

}  // namespace engine

}  // namespace tessera
