// The first weights as a function of tensor and element. Each rank computes the weights that it holds.
#pragma once

#include <tessera/layout/sharding.hpp>

namespace tessera::engine {

/// Sets a weight and its parameter, on a rank that updates the weight.
template <class Kept>
struct FirstWeight {
  Kept kept;
  TESSERA_HD void operator()(index_t i, float weight) const noexcept {
    if constexpr (requires { kept.master; }) kept.store(i, weight);
    kept.parameter[i] = Kept::parameter_of(weight);
  }
};

/// Sets only the parameter, on a rank that holds it and does not update it.
template <class Kept, class Parameter>
struct FirstParameter {
  Parameter* parameter;
  TESSERA_HD void operator()(index_t i, float weight) const noexcept { parameter[i] = Kept::parameter_of(weight); }
};

/// Sets every weight that `parameters` and `state` hold to value(tensor, i), which is called once per weight. Blocks.
template <class Executor, class Parameters, class State, class Value>
void initialize(const Sharding& sharding, Executor& executor, Parameters& parameters, State& state, Value& value) {
  using Kept = typename State::Kept;
  using Parameter = typename State::Parameter;
  for (int b = 0; b < sharding.buckets(); ++b) {
    const Range updated = state.updated(b);
    const auto& trainable = parameters.trainable();
    const auto& frozen = parameters.frozen();
    sharding.for_each_run(b, false, trainable.held(b), [&](Tensor t, index_t first, Range run) {
      const auto set = [&](Range part, auto body) {
        executor.from_host(
            part.size(), [&](index_t i) { return value(t, first + (part.begin - run.begin) + i); }, body);
      };
      const Range kept = layout::intersect(run, updated);
      if (kept.empty()) return set(run, FirstParameter<Kept, Parameter>{trainable.at(b, run.begin)});
      set({run.begin, kept.begin}, FirstParameter<Kept, Parameter>{trainable.at(b, run.begin)});
      set(kept, FirstWeight<Kept>{state.kept(b, kept.begin, trainable)});
      set({kept.end, run.end}, FirstParameter<Kept, Parameter>{trainable.at(b, kept.end)});
    });
    sharding.for_each_run(b, true, frozen.held(b), [&](Tensor t, index_t first, Range run) {
      executor.from_host(
          run.size(), [&](index_t i) { return value(t, first + i); },
          FirstParameter<Kept, Parameter>{frozen.at(b, run.begin)});
    });
  }
}

}  // namespace tessera::engine
