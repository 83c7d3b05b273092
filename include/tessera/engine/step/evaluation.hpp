// Whether the parameters are training weights or evaluation weights. For most rules these are the same. For the others
// the training weights are saved during evaluation and restored bit for bit.
#pragma once

#include <utility>

#include <tessera/core/error.hpp>
#include <tessera/core/math.hpp>
#include <tessera/layout/sharding.hpp>
#include <tessera/rule/concept.hpp>

namespace tessera::engine {

class Evaluation {
 public:
  bool open() const noexcept { return open_; }
  /// How often an evaluation began or ended. Ranks compare this number.
  index_t changes() const noexcept { return changes_; }

  /// Sets the number of changes. Parameters that belong to it are loaded afterwards.
  void set_changes(index_t changes) noexcept {
    changes_ = changes;
    open_ = changes % 2 == 1;
  }

  /// Sets the parameters to the evaluation weights, or back to the training weights, and posts their gathers. A second
  /// call has no effect. step: the tag of the gathers. Blocks until the last step's weights have arrived. Throws
  /// CommError.
  template <class Groups, class State, class Parameters>
  void set(bool evaluation, const Sharding& sharding, const Groups& rules, State& state, Parameters& parameters,
           index_t step) {
    if (evaluation == open_) return;
    if constexpr (State::has_evaluation_weights) {
      parameters.before_update();
      for (int b = 0; b < sharding.buckets(); ++b)
        if (evaluation)
          state.begin_evaluation(b, parameters.array(), rules);
        else
          state.end_evaluation(b, parameters.array());
    }
    open_ = evaluation;
    ++changes_;
    if constexpr (State::has_evaluation_weights)
      for (int b = 0; b < sharding.buckets(); ++b) parameters.publish(b, step);
  }

 private:
  bool open_ = false;
  index_t changes_ = 0;
};

}  // namespace tessera::engine
