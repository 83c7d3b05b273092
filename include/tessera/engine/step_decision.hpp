// How a step is decided, alike on all ranks and where its numbers lie: engine/step_numbers.hpp. One all-reduce a step.
#pragma once

#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include <tessera/comm/communicator.hpp>
#include <tessera/engine/step_numbers.hpp>
#include <tessera/engine/storage.hpp>

namespace tessera {

/// Throws AgreementError, the same on every rank, where some rank differs.
inline void require_agreement(const StepOutcome& outcome, index_t step) {
  if (outcome.differs != 0)
    throw AgreementError(message({"step ", step, ": rank ", outcome.differs,
                                  " did not do what rank 0 did (collectives or hyperparameters differ); "
                                  "nothing was applied"}));
}

template <class Rule, class Executor>
class StepDecision {
 public:
  using ReadBack = typename Executor::template ReadBack<StepOutcome>;

  StepDecision(Executor& executor, const Plan& plan, int rank, int world, const Options& options, bool scales_loss)
      : executor_(&executor),
        numbers_(executor, plan.step_numbers),
        rules_(executor, plan.step_rules),
        words_(executor, plan.agreement),
        rank_(rank),
        world_(world),
        micro_batches_(static_cast<double>(world) * options.micro_batches),
        clip_norm_(options.clip_norm),
        scales_loss_(scales_loss) {
    StepNumbers first;
    first.scaler = LossScaler(options.loss_scale);
    if (scales_loss) first.loss_scale = static_cast<float>(first.scaler.scale());
    executor.upload(numbers_.span(), &first);
  }

  const StepNumbers* numbers() const noexcept { return numbers_.data(); }
  const StepRule<Rule>* rule(int group) const noexcept { return rules_.data() + group; }

  /// Before anything else of the step. rules: one a group, at least as many as the layout has.
  void begin(const std::vector<Rule>& rules) {
    for (std::size_t g = 0; g < rules_.span().size(); ++g)
      executor_->once(PrepareRule<Rule>{rules[g], rules_.data() + g, numbers_.data()});
    executor_->once(ForgetSquares{numbers_.data()});
  }

  /// Where the squares of this rank's part are added.
  SquareSum* squares() noexcept { return &numbers_.data()->mine; }

  /// Brings this rank's numbers together with all others' and decides. circumstances: what else ranks must have done
  /// alike. What is given to the executor from now on finds the decision in numbers().
  /// A synchronous executor's throws AgreementError and CommError; of another the outcome tells.
  template <class Queue>
  void decide(Queue& queue, index_t circumstances, index_t step) {
    const AgreementWords words{words_.data(), world_};
    executor_->once(Offer<Rule>{numbers_.data(), rules_.data(), static_cast<int>(rules_.span().size()), words, rank_,
                                circumstances});
    agreed_ = queue.all_reduce(words_.span(), Tag{"norm and agreement of step", step, step}, executor_->record());
    executor_->wait(agreed_);
    executor_->once(Decide{numbers_.data(), words, micro_batches_, clip_norm_, scales_loss_});
    if constexpr (Executor::synchronous) require_agreed(numbers_.data()->outcome, step);
    last_ = outcome();
  }

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
    require_agreed(std::exchange(last_, {}).get(), step);
  }

 private:
  // After which the next step may agree again.
  void require_agreed(StepOutcome outcome, index_t step) {
    if (outcome.differs != 0) executor_->once(ForgetDifference{numbers_.data()});
    require_agreement(outcome, step);
  }

  Executor* executor_;
  Storage<Executor, StepNumbers> numbers_;
  Storage<Executor, StepRule<Rule>> rules_;
  Storage<Executor, std::uint64_t> words_;
  typename Executor::Event agreed_{};
  ReadBack last_{};
  int rank_;
  int world_;
  double micro_batches_;
  double clip_norm_;
  bool scales_loss_;
};

}  // namespace tessera
