// How a step is decided, alike on all ranks and where its numbers lie: engine/kernels/step_numbers.hpp. One all-reduce a step.
#pragma once

#include <cstdint>
#include <iterator>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <tessera/comm/communicator.hpp>
#include <tessera/core/digest.hpp>
#include <tessera/engine/step/control_state.hpp>
#include <tessera/engine/step/exchange.hpp>
#include <tessera/engine/step/settings.hpp>
#include <tessera/engine/kernels/step_numbers.hpp>
#include <tessera/engine/memory/storage.hpp>

namespace tessera::engine {

/// Throws AgreementError, the same on every rank, where some rank differs. difference: in what, if that is known.
inline void require_agreement(const StepOutcome& outcome, index_t step, std::string_view difference = {}) {
  if (outcome.differs == 0) return;
  const std::string what =
      difference.empty() ? message({"rank ", outcome.differs,
                                    " has another number of micro-batches, clip_norm, hyperparameter, evaluation or "
                                    "count of applied steps than rank 0"})
                         : message({"ranks differ in ", difference});
  throw AgreementError(message({"step ", step, ": ", what,
                                "; nothing was applied: set it alike on every rank and do the step again"}));
}

template <class Rule, class Executor>
class StepDecision {
 public:
  using ReadBack = typename Executor::template ReadBack<StepOutcome>;

  StepDecision(Executor& executor, const Plan& plan, int rank, int world, int units, const Options& options,
               bool scales_loss)
      : executor_(&executor),
        numbers_(executor, plan.step_numbers),
        rules_(executor, plan.step_rules),
        words_(executor, plan.agreement),
        rank_(rank),
        world_(world),
        units_(units),
        scales_loss_(scales_loss) {
    StepNumbers first;
    first.scaler = LossScaler(options.loss_scale);
    if (scales_loss) first.loss_scale = static_cast<float>(first.scaler.scale());
    executor.upload(numbers_.span(), &first);
  }

  StepNumbers* numbers() const noexcept { return numbers_.data(); }
  const StepRule<Rule>* rule(int group) const noexcept { return rules_.data() + group; }

  bool scales_loss() const noexcept { return scales_loss_; }

  /// Reads the part of the control state that is decided here. Blocks.
  void read(ControlState<Rule>& state) const {
    const StepNumbers now = numbers_now();
    state.steps = now.outcome.steps;
    if (!scales_loss_) return;
    const LossScaler::Progress scaling = now.scaler.progress();
    state.loss_scale = scaling.scale;
    state.overflows_left = scaling.overflows_left;
    state.clean_steps = scaling.clean_steps;
  }
  /// Goes on from it, with all weights finite. Blocks.
  void set(const ControlState<Rule>& state) {
    StepNumbers next = numbers_now();
    next.outcome.steps = state.steps;
    next.first_non_finite_weight = {};
    if (scales_loss_) {
      next.scaler.set_progress(LossScaler::Progress{state.loss_scale, state.overflows_left, state.clean_steps});
      next.loss_scale = static_cast<float>(next.scaler.scale());
    }
    executor_->upload(numbers_.span(), &next);
  }

  /// Throws AgreementError on every rank where control states differ. Blocks until all ranks have come.
  template <class Queue>
  void require_same(const ControlState<Rule>& state, Queue& queue) {
    Exchange<Executor, Queue> exchange(*executor_, queue, room(), rank_, world_);
    const auto same = [&](const core::Digest& digest, const char* what) {
      return !exchange.differs(exchange.all(digest.value(), Tag{what, 0, 0}));
    };
    if (!same(core::Digest{}.add(std::ssize(state.rules)).add(std::ssize(state.first_rules)), "rules of the control state"))
      throw AgreementError("set_control_state(): ranks differ in the number of rules: set the same on every rank");
    const std::uint64_t all = digest_of(state, state.rules);
    if (same(core::Digest{}.add(static_cast<std::int64_t>(all)), "control state")) return;
    throw AgreementError(message({"set_control_state(): ranks differ in ",
                                  exchange_settings(state, state.rules, *executor_, queue, rank_, world_),
                                  ": set the same on every rank"}));
  }

  /// Before anything else of the step. rules: one a group, at least as many as the layout has.
  void begin(const std::vector<Rule>& rules) {
    for (std::size_t g = 0; g < rules_.span().size(); ++g)
      executor_->once(PrepareRule<Rule>{rules[g], rules_.data() + g, numbers_.data()});
    executor_->once(ForgetSquares{numbers_.data()});
  }

  /// [>= world] words, free between steps.
  std::span<std::uint64_t> room() noexcept { return words_.span(); }

  /// No step was applied yet, from now on. The loss scale stays.
  void forget_steps() { executor_->once(ForgetSteps{numbers_.data()}); }

  /// Where the squares of this rank's part are added.
  SquareSum* squares() noexcept { return &numbers_.data()->mine; }

  /// Brings this rank's numbers together with all others' and decides. divisor: what is left to divide the reduced
  /// gradients by, beside the loss scale (Reduce::divisor()). absent(unit): whether this rank had no gradient of the
  /// unit. What is given to the executor from now on finds the decision in numbers().
  /// A synchronous executor's throws AgreementError and CommError; of another the outcome tells.
  template <class Queue, class Absent>
  void decide(Queue& queue, const StepSettings& settings, double divisor, const std::vector<Rule>& rules, Absent absent,
              index_t step) {
    const AgreementWords words = this->words();
    executor_->once(Offer{numbers_.data(), words, rank_, digest_of(settings, rules)});
    for (int u = 0; u < units_; ++u)
      if (absent(Unit{u})) executor_->once(OfferAbsent{words, u});
    agreed_ = queue.post(AllReduce(words_.span(), Tag{"norm and agreement of step", step, step}), executor_->record());
    executor_->wait(agreed_);
    executor_->once(Decide{numbers_.data(), words, divisor, settings.clip_norm, scales_loss_});
    if constexpr (Executor::synchronous)
      if (const StepOutcome outcome = numbers_.data()->outcome; outcome.differs != 0) {
        executor_->once(ForgetDifference{numbers_.data()});
        require_agreement(outcome, step, exchange_settings(settings, rules, *executor_, queue, rank_, world_));
      }
    last_ = outcome();
  }

  /// On how many ranks the unit had no gradient in the step that was decided last.
  const std::uint64_t* absent(Unit unit) const noexcept { return &words().absent(unit.index); }

  /// Weights have come in anew: that earlier ones were not finite is forgotten.
  void forget_weights() { executor_->once(ForgetNonFiniteWeight{numbers_.data()}); }
  /// The first place of a parameter that an update of this rank made infinite or NaN, or none.
  auto first_non_finite_weight() const { return executor_->read_back(&std::as_const(*numbers()).first_non_finite_weight); }

  /// Where the host knows of a step that is skipped, nothing more of it is done or sent.
  bool may_be_applied() const noexcept {
    if constexpr (Executor::synchronous) return numbers()->outcome.applied;
    return true;
  }

  /// What the caller multiplies the loss by. Blocks.
  float loss_scale() const { return executor_->read_back(&numbers()->loss_scale).get(); }

  /// Of the last exchange: an outcome is what it says only if this can be waited for.
  const typename Executor::Event& agreed() const noexcept { return agreed_; }

  /// What is decided by now.
  ReadBack outcome() const { return executor_->read_back(&numbers()->outcome); }
  /// What the last step came to, once it is decided.
  const ReadBack& last() const noexcept { return last_; }

  /// Throws AgreementError where ranks differed in the last step, `step`, and this is known by now: once. Never blocks.
  void raise_difference(index_t step) {
    if (!last_.arrived()) return;
    if constexpr (!Executor::synchronous) agreed_.wait();
    const StepOutcome outcome = std::exchange(last_, {}).get();
    if (outcome.differs != 0) executor_->once(ForgetDifference{numbers_.data()});  // the next step may agree again
    require_agreement(outcome, step);
  }

 private:
  StepNumbers numbers_now() const {
    StepNumbers now;
    executor_->download(std::span<const StepNumbers>(numbers_.span()), &now);
    return now;
  }

  AgreementWords words() const noexcept { return {words_.data(), world_, units_}; }

  Executor* executor_;
  Storage<Executor, StepNumbers> numbers_;
  Storage<Executor, StepRule<Rule>> rules_;
  Storage<Executor, std::uint64_t> words_;
  typename Executor::Event agreed_{};
  ReadBack last_{};
  int rank_;
  int world_;
  int units_;
  bool scales_loss_;
};

}  // namespace tessera::engine
