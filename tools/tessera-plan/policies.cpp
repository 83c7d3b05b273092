#include "policies.hpp"

#include <stdexcept>
#include <vector>

#include <tessera/tessera.hpp>

namespace plan {

using namespace tessera;

namespace {

template <class... Policy>
struct Shelf {
  static std::vector<std::string> names() { return {Policy::name...}; }

  /// visit(Policy{}) of the policy of that name.
  template <class Visit>
  static void find(const std::string& name, Visit visit) {
    if (!((name == Policy::name && (visit(Policy{}), true)) || ...)) throw std::out_of_range(name);
  }
};

using Rules =
    Shelf<Sgd, Adam, AdamW, AMSGrad, NAdam, RAdam, Adagrad, RMSprop, Adadelta, Lion, Lamb, Lars, ScheduleFreeAdamW>;
using Precisions = Shelf<Fp32, Bf16, Bf16ReduceFp32, Bf16Remainder, Bf16Stochastic, Fp16, Fp16ReduceFp32>;
using Stages = Shelf<Stage0, Stage1, Stage2, StageHybrid, StageHybridState, Stage3>;

// A stage adds its placements to what the plan knows of rule and precision. So it need not be compiled with each pair
// of them.
template <class Stage>
constexpr Footprint at_stage(Footprint of) {
  of.parameters = Stage::parameters;
  of.gradients = Stage::gradients;
  of.state = Stage::state;
  return of;
}

template <class... Stage>
constexpr bool adds_placements_only(Shelf<Stage...>) {
  return ((at_stage<Stage>(footprint_of<Lamb, Stage3, Fp16>()) == footprint_of<Lamb, Stage, Fp16>()) && ...);
}
static_assert(adds_placements_only(Stages{}));

}  // namespace

std::vector<std::string> rules() { return Rules::names(); }
std::vector<std::string> precisions() { return Precisions::names(); }
std::vector<std::string> stages() { return Stages::names(); }

Footprint footprint(const std::string& rule, const std::string& precision, const std::string& stage) {
  Footprint found;
  Rules::find(rule, [&]<class Rule>(Rule) {
    Precisions::find(precision, [&]<class Precision>(Precision) { found = footprint_of<Rule, Stage3, Precision>(); });
  });
  Stages::find(stage, [&]<class Stage>(Stage) { found = at_stage<Stage>(found); });
  return found;
}

}  // namespace plan
