// What policies make together, before any rank is built: whether they fit, and how many bytes a rank will hold.
#pragma once

#include <type_traits>

#include <tessera/comm/communicator.hpp>
#include <tessera/engine/step_numbers.hpp>
#include <tessera/engine/tensor_norms.hpp>
#include <tessera/layout/plan.hpp>
#include <tessera/precision/precision.hpp>
#include <tessera/rule/concept.hpp>
#include <tessera/stage/stage.hpp>

namespace tessera {

/// Whether the passes of a step are added where backward writes them, and reduced once (design section 4, point 2).
template <class Stage>
constexpr bool adds_passes(bool ordered) {
  return !ordered && !Stage::shards_gradients;
}

/// What a plan must know of the communicator.
struct Sums {
  bool ordered = true;
  bool staged = false;          ///< into the reduction type
  bool partial_staged = false;  ///< into partial sums
};

template <class Comm, class Precision>
constexpr Sums sums_of() {
  using Gradient = typename Precision::Gradient;
  return {Comm::ordered, stages_reductions<Comm, Gradient, typename Precision::Reduction>(),
          stages_reductions<Comm, Gradient, float>()};
}

/// The policies as numbers, for the plan.
template <class Rule, class Stage, class Precision>
constexpr Footprint footprint_of(Sums sums = {}) {
  using Parameter = typename Precision::Parameter;
  using Reduction = typename Precision::Reduction;
  return {.parameters_sharded = Stage::shards_parameters,
          .gradients_sharded = Stage::shards_gradients,
          .state_sharded = Stage::shards_state,
          .reduced_in_place = std::is_same_v<typename Precision::Gradient, Reduction>,
          .parameter_bytes = sizeof(Parameter),
          .gradient_bytes = sizeof(typename Precision::Gradient),
          .reduction_bytes = sizeof(Reduction),
          .master_bytes = master_bytes<Precision>,
          .state_floats = state_floats<Rule>,
          .state_bytes = sizeof(typename Precision::State),
          .training_weight_bytes =
              HasEvaluationWeights<Rule> && !parameter_follows_master<Precision> ? index_t{sizeof(Parameter)} : 0,
          .passes_added_in_place = adds_passes<Stage>(sums.ordered),
          .sums_staged = sums.staged,
          .partial_sums_staged = sums.partial_staged,
          .agreement_words = AgreementWords::size(0, 0),
          .agreement_words_per_rank = AgreementWords::size(1, 0) - AgreementWords::size(0, 0),
          .agreement_words_per_unit = AgreementWords::size(0, 1) - AgreementWords::size(0, 0),
          .norm_words = NeedsTensorNorms<Rule> ? norm_words : 0,
          .step_bytes = sizeof(StepNumbers),
          .rule_bytes = sizeof(StepRule<Rule>)};
}

/// What Sharded<Rule, Stage, Precision, Comm> is without ranks. Refuses to compile, in words, what cannot be composed.
template <class Rule, class Stage, class Precision, class Comm>
class Composition {
  static_assert(UpdateRule<Rule>,
                "Sharded<Rule, Stage, Precision, Comm>: the first argument must be an update rule, such as Adam");
  static_assert(StagePolicy<Stage>,
                "Sharded<Rule, Stage, Precision, Comm>: the second argument must be a stage, Stage0 to Stage3; sharded "
                "parameters need sharded gradients, and those need sharded state");
  static_assert(
      PrecisionPolicy<Precision>,
      "Sharded<Rule, Stage, Precision, Comm>: the third argument must be a precision, such as Fp32 or Bf16; its "
      "Parameter is a floating-point type of 2 or 4 bytes, its Gradient, Reduction and State are ones of 1, "
      "2, 4 or 8");
  static_assert(Communicator<Comm>,
                "Sharded<Rule, Stage, Precision, Comm>: the fourth argument must be a communicator, such as Local");

 public:
  /// All bytes that a rank will hold. Throws OptionError.
  static constexpr Plan plan(const Layout& layout, int world, const Options& options = {}) {
    options.check();
    if (world < 1) throw OptionError(message({"plan: a world has at least 1 rank, not ", world}));
    return plan_of(Sharding(layout, world, bucket_elements(options)), options);
  }

  /// How many elements the caller's buffers need.
  static constexpr Required required(const Layout& layout, int world, const Options& options = {}) {
    const Plan all = plan(layout, world, options);
    return {all.parameters.elements, all.gradients.copies * all.gradients.elements};
  }

 protected:
  static constexpr index_t bucket_elements(const Options& options) {
    return options.bucket_bytes / static_cast<index_t>(sizeof(typename Precision::Gradient));
  }

  static constexpr Plan plan_of(const Sharding& sharding, const Options& options) {
    return make_plan(sharding, options, footprint_of<Rule, Stage, Precision>(sums_of<Comm, Precision>()));
  }
};

}  // namespace tessera
