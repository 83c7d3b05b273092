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
  const auto& array = parameters.array();
  for (int s = 0; s < sharding.layout().spaces(); ++s)
    for (int b = 0; b < sharding.buckets(); ++b) {
      const int p = sharding.piece(b, s);
      const Range updated = s == sharding.layout().frozen_space() ? Range{} : state.updated(p);
      sharding.for_each_run(b, s, array.held(p), [&](Tensor t, index_t first, Range run) {
        const auto set = [&](Range part, auto body) {
          executor.from_host(
              part.size(), [&](index_t i) { return value(t, first + (part.begin - run.begin) + i); }, body);
        };
        const Range kept = layout::intersect(run, updated);
        if (kept.empty()) return set(run, FirstParameter<Kept, Parameter>{array.at(p, run.begin)});
        set({run.begin, kept.begin}, FirstParameter<Kept, Parameter>{array.at(p, run.begin)});
        set(kept, FirstWeight<Kept>{state.kept(p, kept.begin, array)});
        set({kept.end, run.end}, FirstParameter<Kept, Parameter>{array.at(p, kept.end)});
      });
    }
}

}  // namespace tessera::engine
