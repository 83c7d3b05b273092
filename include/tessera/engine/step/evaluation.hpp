// Which weights the parameters are: those that are trained, or those that are evaluated. For most rules the same; for
// the others the trained ones are kept meanwhile, and come back to the bit.
#pragma once

#include <utility>
#include <vector>

#include <tessera/core/error.hpp>
#include <tessera/core/math.hpp>
#include <tessera/layout/sharding.hpp>
#include <tessera/rule/concept.hpp>

namespace tessera::engine {

class Evaluation {
 public:
  bool open() const noexcept { return open_; }
  /// How often one began or ended: ranks must have done so alike.
  index_t changes() const noexcept { return changes_; }

  /// The parameters are about to come in from outside, after so many changes.
  void set_changes(index_t changes) noexcept {
    changes_ = changes;
    open_ = changes % 2 == 1;
  }

  /// Makes the parameters those of evaluation (or of training again), and sends them on their way; twice is once.
  /// step: what the gathers are tagged with. Blocks until the last step's weights have come. Throws CommError.
  template <class Rule, class State, class Parameters>
  void set(bool evaluation, const Sharding& sharding, const std::vector<Rule>& rules, State& state,
           Parameters& parameters, index_t step) {
    if (evaluation == open_) return;
    if constexpr (HasEvaluationWeights<Rule>) {
      parameters.before_update();
      for (int b = 0; b < sharding.buckets(); ++b)
        if (evaluation)
          state.begin_evaluation(b, parameters.trainable(), rules);
        else
          state.end_evaluation(b, parameters.trainable());
    }
    open_ = evaluation;
    ++changes_;
    if constexpr (HasEvaluationWeights<Rule>)
      for (int b = 0; b < sharding.buckets(); ++b) parameters.publish(b, step);
  }

 private:
  bool open_ = false;
  index_t changes_ = 0;
};

}  // namespace tessera::engine
