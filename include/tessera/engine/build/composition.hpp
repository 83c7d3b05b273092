// A combination of policies, before any rank is constructed: checks that they fit, and plans the bytes of a rank.
#pragma once

#include <tessera/comm/communicator.hpp>
#include <tessera/engine/memory/footprint.hpp>
#include <tessera/layout/plan.hpp>
#include <tessera/precision/precision.hpp>
#include <tessera/rule/rules.hpp>
#include <tessera/stage/stage.hpp>

namespace tessera::engine {

/// The part of Sharded<Rule, Stage, Precision, Comm> that needs no ranks. Policies that do not fit do not compile; the
/// message says why.
template <class Rule, class Stage, class Precision, class Comm>
class Composition {
  static_assert(rule::Set<Rule>::valid,
                "Sharded<Rule, Stage, Precision, Comm>: the first argument must be an update rule, such as Adam, or "
                "Rules<...> of several");
  static_assert(rule::Set<Rule>::count <= layout::most_rules,
                "Sharded<Rule, Stage, Precision, Comm>: Rules<...> has at most layout::most_rules rules");
  static_assert(rule::have_distinct_state_names<Rule>(),
                "Sharded<Rule, Stage, Precision, Comm>: the rule's state_names must be words that differ from each "
                "other, and from 'parameter', 'master' and 'trained', which are the names of other arrays");
  static_assert(StagePolicy<Stage>,
                "Sharded<Rule, Stage, Precision, Comm>: the second argument must be a stage, Stage0 to Stage3, or a "
                "struct with a name, derived from tessera::Stage<parameters, gradients, state>");
  static_assert(
      PrecisionPolicy<Precision>,
      "Sharded<Rule, Stage, Precision, Comm>: the third argument must be a precision, such as Fp32 or Bf16; its "
      "Parameter is a floating-point type of 2 or 4 bytes, its Gradient, Reduction and State are ones of 1, "
      "2, 4 or 8");
  static_assert(Communicator<Comm>,
                "Sharded<Rule, Stage, Precision, Comm>: the fourth argument must be a communicator, such as Local");
  static_assert(!Stage::has_groups || GroupCommunicator<Comm>,
                "Sharded<Rule, Stage, Precision, Comm>: the stage shards over groups of ranks, which the communicator "
                "does not have (GroupCommunicator)");

 public:
  /// All allocations of a rank. Throws OptionError.
  static constexpr Plan plan(const Layout& layout, int world, const Options& options = {}) {
    options.validate();
    if (world < 1) throw OptionError(message({"plan: a world has at least 1 rank, not ", world}));
    return plan_of(sharding_of(layout, world, options), options);
  }

  /// The number of elements that the caller's buffers need.
  static constexpr Required required(const Layout& layout, int world, const Options& options = {}) {
    const Plan all = plan(layout, world, options);
    return {all.parameters.elements, all.gradients.copies * all.gradients.elements};
  }

 protected:
  /// Throws OptionError if groups do not divide the world.
  static constexpr Sharding sharding_of(const Layout& layout, int world, const Options& options) {
    const int group = !Stage::has_groups ? 1 : options.group_size == 0 ? world : options.group_size;
    if (world % group != 0)
      throw OptionError(message({"options: ", world, " ranks do not divide into groups of group_size = ", group}));
    return Sharding(layout, world, bucket_elements(options), group);
  }

  static constexpr index_t bucket_elements(const Options& options) {
    return options.bucket_bytes / static_cast<index_t>(sizeof(typename Precision::Gradient));
  }

  static constexpr Plan plan_of(const Sharding& sharding, const Options& options) {
    return layout::make_plan(sharding, options, footprint_of<Rule, Stage, Precision>(sums_of<Comm, Precision>()));
  }
};

}  // namespace tessera::engine
