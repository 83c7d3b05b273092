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
using Stages = Shelf<Stage0, Stage1, Stage2, Stage3>;

}  // namespace

std::vector<std::string> rules() { return Rules::names(); }
std::vector<std::string> precisions() { return Precisions::names(); }

Footprint footprint(const std::string& rule, const std::string& precision, int stage) {
  Footprint found;
  Rules::find(rule, [&]<class Rule>(Rule) {
    Precisions::find(precision, [&]<class Precision>(Precision) {
      Stages::find(Stages::names().at(static_cast<std::size_t>(stage)), [&]<class Stage>(Stage) {
        found = footprint_of<Rule, Stage, Precision>();
      });
    });
  });
  return found;
}

}  // namespace plan
