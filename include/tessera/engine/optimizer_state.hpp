// Master weights and optimizer state of what this rank updates: its part where the stage shards state, else everything.
#pragma once

#include <type_traits>
#include <vector>

#include <tessera/core/list.hpp>
#include <tessera/engine/storage.hpp>
#include <tessera/engine/update.hpp>
#include <tessera/layout/sharding.hpp>

namespace tessera {

template <class Rule, class Stage, class Precision, class Executor>
class OptimizerState {
 public:
  using Parameter = typename Precision::Parameter;

  /// Where parameters are float, they are the master weights.
  static constexpr bool has_master = !std::is_same_v<Parameter, float>;

  OptimizerState(const Sharding& sharding, int rank, Executor& executor, const Plan& plan)
      : sharding_(&sharding),
        rank_(rank),
        executor_(&executor),
        master_(executor, plan.master_weights),
        state_(executor, plan.optimizer_state),
        member_elements_(plan.optimizer_state.elements) {
    for (int b = 0; b < sharding.buckets(); ++b) segments_.push_back(sharding.segments(sharding.bucket(b), updated(b)));
  }

  /// What this rank updates of bucket `b`.
  Range updated(int b) const {
    return Stage::shards_state ? sharding_->trainable().owned(b, rank_) : sharding_->trainable().range(b);
  }

  /// The master weight of the element at `place`, which must be in updated(b).
  float* master(int b, index_t place) noexcept { return master_.data() + offset(b, place); }

  /// Takes the parameters as they are for the first master weights.
  template <class Parameters>
  void start_from(Parameters& parameters) {
    if constexpr (has_master)
      for (int b = 0; b < sharding_->buckets(); ++b)
        for (const Segment& segment : segments_[b]) {
          const Parameter* const from = parameters.at(b, segment.place.begin);
          float* const to = master(b, segment.place.begin);
          executor_->for_each(segment.place.size(), [=](index_t i) noexcept { to[i] = static_cast<float>(from[i]); });
        }
  }

  /// One pass over bucket `b`: unscale, rule, master, state, parameter. rules: one a group; step: counted from 1.
  template <class Reduce, class Parameters>
  void update(int b, Reduce& reduce, Parameters& parameters, const std::vector<Rule>& rules, index_t step, float scale) {
    for (const Segment& segment : segments_[b]) {
      const index_t begin = segment.place.begin;
      const Rule& rule = rules[segment.group];
      FusedUpdate<Rule, typename Precision::Reduction, Parameter> element;
      element.gradient = reduce.at(b, begin);
      element.parameter = parameters.at(b, begin);
      if constexpr (has_master)
        element.weight = master(b, begin);
      else
        element.weight = element.parameter;
      for (std::size_t s = 0; s < element.state.size(); ++s)
        element.state[s] = state_.data() + static_cast<index_t>(s) * member_elements_ + offset(b, begin);
      element.rule = rule;
      element.scalars = rule.at(step);
      element.scale = scale;
      executor_->for_each(segment.place.size(), element);
    }
  }

 private:
  index_t offset(int b, index_t place) const {
    return Stage::shards_state ? sharding_->trainable().shard_begin(b) + place - updated(b).begin : place;
  }

  const Sharding* sharding_;
  int rank_;
  Executor* executor_;
  Storage<Executor, float> master_;
  Storage<Executor, float> state_;
  index_t member_elements_;
  List<List<Segment>> segments_;
};

}  // namespace tessera
