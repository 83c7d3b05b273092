// What is looked at before an optimizer is built: first what is wrong on this rank, then what differs between ranks, in
// one exchange, so that a rank that cannot be built does not leave the others waiting.
#pragma once

#include <exception>
#include <span>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include <tessera/engine/agreement.hpp>
#include <tessera/engine/storage.hpp>
#include <tessera/rule/concept.hpp>

namespace tessera {

/// The policies as numbers, for the plan.
template <class Rule, class Stage, class Precision>
constexpr Footprint footprint_of(index_t agreement_words) {
  using Parameter = typename Precision::Parameter;
  using Reduction = typename Precision::Reduction;
  return {.parameters_sharded = Stage::shards_parameters,
          .gradients_sharded = Stage::shards_gradients,
          .state_sharded = Stage::shards_state,
          .reduced_in_place = std::is_same_v<typename Precision::Gradient, Reduction>,
          .parameter_bytes = sizeof(Parameter),
          .gradient_bytes = sizeof(typename Precision::Gradient),
          .reduction_bytes = sizeof(Reduction),
          .master_bytes = std::is_same_v<Parameter, float> ? 0 : sizeof(float),
          .state_floats = state_floats<Rule>,
          .agreement_words = agreement_words};
}

/// Throws OptionError or LayoutError for what no rank can be built from.
template <class Rule, class Stage>
void check_model(const Layout& layout, const std::vector<Rule>& rules, const Options& options) {
  options.check();
  for (const Rule& rule : rules) rule.check();
  for (const Tensor t : layout.tensors())
    if (layout.group(t) >= static_cast<int>(rules.size()))
      throw OptionError(message({"tensor '", layout.name(t), "' is of hyperparameter group ", layout.group(t), ", but ",
                                 rules.size(), " rules were given"}));
  if (layout.is_flat() && Stage::shards_gradients)
    throw LayoutError(message({"a flat layout keeps its gradients in the caller's buffer: stages 0 and 1, not ",
                               Stage::name}));
}

template <class Rule, class Stage, class Precision>
Blueprint describe(const Layout& layout, const std::vector<Rule>& rules, const Options& options) {
  Digest scalars;
  for (const Rule& rule : rules) scalars.add(rule.at(1));
  Blueprint blueprint;
  blueprint.set(0, "version", message({version}), static_cast<std::uint64_t>(version));
  blueprint.set(1, "rule", Rule::name, state_floats<Rule>);
  blueprint.set(2, "stage", Stage::name, 0);
  blueprint.set(3, "precision", Precision::name, sizeof(typename Precision::Parameter));
  blueprint.set(4, "layout",
                message({layout.parameters(), " parameters in ", layout.units(), " units (digest ", layout.digest(), ")"}),
                layout.digest());
  blueprint.set(5, "options", options.describe(), options.digest());
  blueprint.set(6, "hyperparameters", message({rules.size(), " rules (digest ", scalars.value(), ")"}),
                scalars.value());
  return blueprint;
}

/// Runs `check()`, and tells all ranks what it threw. Every rank that has nothing to throw itself throws AgreementError
/// where another one has, or where blueprints differ. Blocks until all ranks have come.
template <class Executor, class Queue, class Check>
void agree_to_build(Executor executor, Queue& queue, int rank, int world, Blueprint blueprint, Check check) {
  std::exception_ptr problem;
  try {
    check();
  } catch (const Error& error) {
    problem = std::current_exception();
    blueprint.refuse(error.what());
  }
  try {
    agree(std::move(executor), queue, rank, world, blueprint);
  } catch (const AgreementError&) {
    if (!problem) throw;
  }
  if (problem) std::rethrow_exception(problem);
}

}  // namespace tessera
