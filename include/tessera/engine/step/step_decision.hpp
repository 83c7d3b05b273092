// Decides each step, with the same result on all ranks: one all-reduce per step, and the tasks of
// engine/kernels/step_numbers.hpp on the executor.
#pragma once

#include <cstdint>
#include <iterator>
#include <span>
#include <string>
#include <string_view>
#include <tuple>
#include <utility>

#include <tessera/comm/communicator.hpp>
#include <tessera/core/digest.hpp>
#include <tessera/engine/step/control_state.hpp>
#include <tessera/engine/step/exchange.hpp>
#include <tessera/engine/step/settings.hpp>
#include <tessera/engine/kernels/step_numbers.hpp>
#include <tessera/engine/memory/storage.hpp>

namespace tessera::engine {

/// Throws AgreementError, the same on every rank, if a rank differs. difference: what differs, if known.
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
  template <int r>
  using At = typename rule::Set<Rule>::template At<r>;
  using Groups = typename rule::Set<Rule>::Groups;

 public:
  using ReadBack = typename Executor::template ReadBack<StepOutcome>;

  StepDecision(Executor& executor, const Plan& plan, int rank, int world, int units, const Options& options,
               bool scales_loss)
      : executor_(&executor),
        numbers_(executor, plan.step_numbers),
        rules_(storage(executor, plan)),
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
  /// The rule with index r of a hyperparameter group.
  template <int r = 0>
  const StepRule<At<r>>* rule(int group) const noexcept {
    return std::get<to_size(r)>(rules_).data() + group;
  }

  bool scales_loss() const noexcept { return scales_loss_; }

  /// Copies the executor's part of the control state to `state`. Blocks.
  void read(ControlState<Rule>& state) const {
    const StepNumbers now = numbers_now();
    state.steps = now.outcome.steps;
    if (!scales_loss_) return;
    const LossScaler::Progress scaling = now.scaler.progress();
    state.loss_scale = scaling.scale;
    state.overflows_left = scaling.overflows_left;
    state.clean_steps = scaling.clean_steps;
  }
  /// Sets it from `state` and resets the record of weights that are not finite. Blocks.
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

  /// Throws AgreementError on every rank if control states differ. Blocks until all ranks have called it.
  template <class Queue>
  void require_same(const ControlState<Rule>& state, Queue& queue) {
    Exchange<Executor, Queue> exchange(*executor_, queue, room(), rank_, world_);
    const auto same = [&](const core::Digest& digest, const char* what) {
      return !exchange.differs(exchange.all(digest.value(), Tag{what, 0, 0}));
    };
    core::Digest sizes;
    rule::for_each<Rule>([&](auto r) {
      sizes.add(std::ssize(rule::of<r>(state.rules))).add(std::ssize(rule::of<r>(state.first_rules)));
    });
    if (!same(sizes, "rules of the control state"))
      throw AgreementError("set_control_state(): ranks differ in the number of rules: set the same on every rank");
    const std::uint64_t all = digest_of(state, state.rules);
    if (same(core::Digest{}.add(static_cast<std::int64_t>(all)), "control state")) return;
    throw AgreementError(message({"set_control_state(): ranks differ in ",
                                  exchange_settings(state, state.rules, *executor_, queue, rank_, world_),
                                  ": set the same on every rank"}));
  }

  /// Called first in step(). rules: one per hyperparameter group of the layout, or more.
  void begin(const Groups& rules) {
    rule::for_each<Rule>([&](auto r) {
      auto& stored = std::get<to_size(int{r})>(rules_);
      for (std::size_t g = 0; g < stored.span().size(); ++g)
        executor_->once(PrepareRule<At<r>>{rule::of<r>(rules)[g], stored.data() + g, numbers_.data()});
    });
    executor_->once(ForgetSquares{numbers_.data()});
  }

  /// [>= world] words that are unused between steps.
  std::span<std::uint64_t> room() noexcept { return words_.span(); }

  /// Resets the number of applied steps. The loss scale does not change.
  void forget_steps() { executor_->once(ForgetSteps{numbers_.data()}); }

  /// The sum of squares of the reduced gradients that this rank owns.
  SquareSum* squares() noexcept { return &numbers_.data()->mine; }

  /// Exchanges this rank's numbers with all ranks and decides the step. divisor: Reduce::divisor(), which divides the
  /// reduced gradients in addition to the loss scale. absent(unit): whether this rank had no gradient of the unit.
  /// Tasks enqueued later find the decision in numbers(). On a synchronous executor this throws AgreementError and
  /// CommError; on an asynchronous one the outcome reports them.
  template <class Queue, class Absent>
  void decide(Queue& queue, const StepSettings& settings, double divisor, const Groups& rules, Absent absent,
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

  /// The number of ranks that had no gradient of the unit in the step decided last.
  const std::uint64_t* absent(Unit unit) const noexcept { return &words().absent(unit.index); }

  /// Called when new weights are brought in: resets the record of weights that are not finite.
  void forget_weights() { executor_->once(ForgetNonFiniteWeight{numbers_.data()}); }
  /// The lowest offset of a parameter that an update of this rank made infinite or NaN, or none.
  auto first_non_finite_weight() const { return executor_->read_back(&std::as_const(*numbers()).first_non_finite_weight); }

  /// False if the host knows that the step is skipped, so that no further work is enqueued for it.
  bool may_be_applied() const noexcept {
    if constexpr (Executor::synchronous) return numbers()->outcome.applied;
    return true;
  }

  /// The factor by which the caller multiplies the loss. Blocks.
  float loss_scale() const { return executor_->read_back(&numbers()->loss_scale).get(); }

  /// The event of the last exchange. An outcome is valid only if waiting for this event does not throw.
  const typename Executor::Event& agreed() const noexcept { return agreed_; }

  /// The current outcome.
  ReadBack outcome() const { return executor_->read_back(&numbers()->outcome); }
  /// The outcome of the last step, once it is decided.
  const ReadBack& last() const noexcept { return last_; }

  /// Throws AgreementError, once, if the outcome of the last step, `step`, has arrived and says that ranks differed.
  /// Never blocks.
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

  static auto storage(Executor& executor, const Plan& plan) {
    return [&]<int... r>(std::integer_sequence<int, r...>) {
      return std::tuple(Storage<Executor, StepRule<At<r>>>(executor, plan.of_rule(r).step_rules)...);
    }(std::make_integer_sequence<int, rule::Set<Rule>::count>{});
  }

  AgreementWords words() const noexcept { return {words_.data(), world_, units_}; }

  Executor* executor_;
  Storage<Executor, StepNumbers> numbers_;
  decltype(storage(std::declval<Executor&>(), std::declval<const Plan&>())) rules_;  // by rule
  Storage<Executor, std::uint64_t> words_;
  typename Executor::Event agreed_{};
  ReadBack last_{};
  int rank_;
  int world_;
  int units_;
  bool scales_loss_;
};

}  // namespace tessera::engine
