// The first weights, as a function of tensor and element: each rank computes those that it holds.
#pragma once

#include <tessera/layout/sharding.hpp>

namespace tessera {

/// Sets every weight that `parameters` and `state` hold to value(tensor, i), asked for once each.
template <class Parameters, class State, class Value>
void initialize(const Sharding& sharding, Parameters& parameters, State& state, Value& value) {
  for (int b = 0; b < sharding.buckets(); ++b) {
    const Range updated = state.updated(b);
    sharding.for_each_element(b, false, parameters.held(b), [&](Tensor t, index_t i, index_t place) {
      const auto weight = static_cast<float>(value(t, i));
      if constexpr (requires { State::Kept::master; })
        if (updated.begin <= place && place < updated.end) state.kept(b, place, parameters).store(0, weight);
      *parameters.at(b, place) = State::Kept::parameter_of(weight);
    });
    sharding.for_each_element(b, true, parameters.held_frozen(b), [&](Tensor t, index_t i, index_t place) {
      *parameters.at_frozen(b, place) = State::Kept::parameter_of(static_cast<float>(value(t, i)));
    });
  }
}

}  // namespace tessera
