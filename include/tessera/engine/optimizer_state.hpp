// Master weights and optimizer state of what this rank updates: its part where the stage shards state, else everything.
#pragma once

#include <cstddef>
#include <cstdint>
#include <type_traits>
#include <vector>

#include <tessera/core/list.hpp>
#include <tessera/engine/storage.hpp>
#include <tessera/engine/tensor_norms.hpp>
#include <tessera/engine/update.hpp>
#include <tessera/layout/sharding.hpp>
#include <tessera/precision/precision.hpp>

namespace tessera {

template <class Rule, class Stage, class Precision, class Executor>
class OptimizerState {
 public:
  using Parameter = typename Precision::Parameter;

  using Kept = KeptWeight<Parameter, typename Precision::Master>;

  /// groups: of hyperparameters. seed: of random rounding.
  OptimizerState(const Sharding& sharding, int rank, Executor& executor, const Plan& plan, std::size_t groups,
                 std::uint64_t seed)
      : sharding_(&sharding),
        rank_(rank),
        executor_(&executor),
        rules_(groups),
        seed_(seed),
        master_(executor, plan.master_weights),
        state_(executor, plan.optimizer_state),
        member_elements_(plan.optimizer_state.elements),
        norms_(executor, plan) {
    for (int b = 0; b < sharding.buckets(); ++b)
      segments_.push_back(sharding.segments(sharding.bucket(b), updated(b), NeedsTensorNorms<Rule>));
  }

  /// What this rank updates of bucket `b`.
  Range updated(int b) const {
    return Stage::shards_state ? sharding_->trainable().owned(b, rank_) : sharding_->trainable().range(b);
  }

  /// The weights from `place` on, which must be in updated(b).
  template <class Parameters>
  Kept kept(int b, index_t place, Parameters& parameters) noexcept {
    Kept kept;
    kept.parameter = parameters.at(b, place);
    if constexpr (requires { kept.master; }) kept.master = master_.data() + offset(b, place);
    if constexpr (requires { kept.place; }) kept.place = place;
    return kept;
  }

  /// Takes the parameters as they are for the first weights. (A remainder is zero, and so is right.)
  template <class Parameters>
  void start_from(Parameters& parameters) {
    if constexpr (std::is_same_v<typename Precision::Master, float>)
      for (int b = 0; b < sharding_->buckets(); ++b)
        for (const Segment& segment : segments_[b]) {
          const Kept weight = kept(b, segment.place.begin, parameters);
          executor_->for_each(segment.place.size(), [weight](index_t i) noexcept {
            weight.store(i, static_cast<float>(weight.parameter[i]));
          });
        }
  }

  /// Before the step's measure() and update(). rules: one a group; step: counted from 1.
  void begin_step(const std::vector<Rule>& rules, index_t step) {
    for (std::size_t group = 0; group < rules_.size(); ++group) rules_[group] = {rules[group], rules[group].at(step)};
    step_ = step;
  }

  /// Before the update of the first bucket: takes the norms of all tensors, over all ranks, if the rule needs them.
  /// Throws CommError.
  template <class Reduce, class Parameters, class Queue>
  void measure(Reduce& reduce, Parameters& parameters, float scale, Queue& queue) {
    if constexpr (NeedsTensorNorms<Rule>) {
      norms_.clear();
      for (int b = 0; b < sharding_->buckets(); ++b)
        for (const Segment& segment : segments_[b]) {
          const auto element = element_of(b, segment, reduce, parameters, scale);
          const index_t n = segment.place.size();
          const index_t lead = segment.place.begin % block;
          ExactSum weights, measured;
          executor_->add_squares_of(n, lead, WeightOf<Rule, Precision>{element}, weights);
          executor_->add_squares_of(n, lead, MeasuredOf<Rule, Precision>{element}, measured);
          norms_.set(segment.tensor, weights, measured);
        }
      if constexpr (Stage::shards_state) norms_.exchange(queue, step_);
    }
  }

  /// One pass over bucket `b`: unscale, rule, master, state, parameter.
  template <class Reduce, class Parameters>
  void update(int b, Reduce& reduce, Parameters& parameters, float scale) {
    for (const Segment& segment : segments_[b]) {
      auto element = element_of(b, segment, reduce, parameters, scale);
      if constexpr (NeedsTensorNorms<Rule>)
        element.scalars = element.rule.adapted(element.scalars, norms_.of_weights(segment.tensor),
                                               norms_.of_measured(segment.tensor));
      executor_->for_each(segment.place.size(), element);
    }
  }

  /// Trades bucket `b`'s weights between those that are trained and those that are evaluated.
  template <bool evaluation, class Parameters>
  void exchange(int b, Parameters& parameters, const std::vector<Rule>& rules) {
    for (const Segment& segment : segments_[b]) {
      auto element = element_of(b, segment, parameters);
      element.rule = rules[segment.group];
      executor_->for_each(segment.place.size(), ExchangedWeight<Rule, Precision, evaluation>{element});
    }
  }

 private:
  struct StepRule {
    Rule rule{};
    typename Rule::Scalars scalars{};
  };

  template <class Parameters>
  FusedUpdate<Rule, Precision> element_of(int b, const Segment& segment, Parameters& parameters) {
    const index_t begin = segment.place.begin;
    FusedUpdate<Rule, Precision> element;
    element.weight = kept(b, begin, parameters);
    if constexpr (requires { element.weight.random; }) element.weight.random = StepRandom(seed_, step_);
    for (std::size_t s = 0; s < state_floats<Rule>; ++s)
      element.state[s] = state_.data() + static_cast<index_t>(s) * member_elements_ + offset(b, begin);
    return element;
  }

  template <class Reduce, class Parameters>
  FusedUpdate<Rule, Precision> element_of(int b, const Segment& segment, Reduce& reduce, Parameters& parameters,
                                          float scale) {
    auto element = element_of(b, segment, parameters);
    element.gradient = reduce.at(b, segment.place.begin);
    element.rule = rules_[segment.group].rule;
    element.scalars = rules_[segment.group].scalars;
    element.scale = scale;
    return element;
  }

  index_t offset(int b, index_t place) const {
    return Stage::shards_state ? sharding_->trainable().shard_begin(b) + place - updated(b).begin : place;
  }

  const Sharding* sharding_;
  int rank_;
  Executor* executor_;
  List<StepRule> rules_;  // by group, as they are in this step
  std::uint64_t seed_;
  index_t step_ = 0;
  Storage<Executor, typename Precision::Master> master_;
  Storage<Executor, typename Precision::State> state_;
  index_t member_elements_;
  TensorNorms<Executor> norms_;
  List<List<Segment>> segments_;
};

}  // namespace tessera
