#include "answer.hpp"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <limits>
#include <utility>
#include <vector>

#include "policies.hpp"

namespace plan {

using namespace tessera;

namespace {

// What costs less is not worth a stage more, which moves more data and gives the user less to look at.
constexpr double not_slower = 1.05;

// Sums of the same numbers in another order are no difference.
constexpr double rounding = 1e-9;

Layout layers(const Question& question) {
  Layout layout;
  const index_t each = question.parameters / question.layers, left = question.parameters % question.layers;
  for (int l = 0; l < question.layers; ++l) {
    layout.add_unit("layer" + std::to_string(l));
    layout.add_tensor("weight", {each + (l < left ? 1 : 0)});
  }
  return layout;
}

// Of an element: what the norm reads, then what the fused update reads and writes (engine/kernels/update.hpp).
double bytes_of_update(const Footprint& of) {
  const index_t norm = of.reduction_bytes;
  const index_t weight = of.master_bytes > 0 ? 2 * of.master_bytes : of.parameter_bytes;
  return static_cast<double>(norm + of.reduction_bytes + weight + of.parameter_bytes +
                             2 * of.state_floats * of.state_bytes);
}

std::vector<UnitSeconds> unit_seconds(const Question& question, const Layout& layout, const Footprint& of, int ranks) {
  const double updates = bytes_of_update(of) / question.memory_bandwidth / (of.state.sharded() ? ranks : 1);
  std::vector<UnitSeconds> units;
  for (const Unit u : layout.forward()) {
    const auto elements = static_cast<double>(layout.trainable(u).size());
    const double pass = question.pass_seconds() * elements / static_cast<double>(question.parameters);
    units.push_back({pass / 3, pass * 2 / 3, elements * updates});
  }
  return units;
}

Sharding sharded(const Question& question, const Footprint& of, int ranks) {
  return Sharding(layers(question), ranks, question.options.bucket_bytes / of.gradient_bytes);
}

bool fits(const Question& question, const Plan& plan) { return static_cast<double>(plan.bytes()) <= question.room(); }

bool fits(const Question& question, int stage, int ranks) {
  const Footprint of = footprint(question.rule, question.precision, stage);
  return fits(question, layout::make_plan(sharded(question, of, ranks), question.options, of));
}

// The number of worlds of at most most_ranks.
int worlds(const Question& question) {
  const int node = question.network.ranks_a_node;
  return most_ranks <= node ? most_ranks : node + most_ranks / node - 1;
}

// Bytes fall with ranks, until what does not shrink with them is all that is left.
std::optional<int> least_ranks(const Question& question, int stage) {
  const int all = worlds(question);
  int most = 1;
  while (most < all && !fits(question, stage, world(question, most))) most = std::min(2 * most, all);
  if (!fits(question, stage, world(question, most))) return std::nullopt;
  int least = most / 2;  // does not fit, or is none
  while (most - least > 1) {
    const int middle = (least + most) / 2;
    (fits(question, stage, world(question, middle)) ? most : least) = middle;
  }
  return world(question, most);
}

std::string percent(double ratio) {
  if (ratio < 0.01) return "less than 1%";
  char text[32];
  std::snprintf(text, sizeof text, "%.0f%%", 100 * ratio);
  return text;
}

std::string name(int stage) { return "stage " + std::to_string(stage); }

// Why no stage fits, and where one would.
void advise(const Question& question, Answer& answer) {
  if (question.room() <= 0) {
    answer.reason = "No stage fits on any number of ranks: --activations, " + bytes(question.activations) +
                    ", leave nothing of the device's " + bytes(question.device_memory) +
                    ". Fewer tokens a micro-batch or recomputing activations do.";
    return;
  }
  const Plan& last = answer.stages[3].plan;
  answer.reason = "No stage fits: stage 3 holds " + bytes(static_cast<double>(last.bytes())) + " a rank, and " +
                  bytes(question.room()) + " are free. ";
  for (int stage = 3; stage >= 0; --stage)
    if (const auto ranks = least_ranks(question, stage); ranks && *ranks <= answer.ranks_that_fit.value_or(*ranks)) {
      answer.ranks_that_fit = ranks;
      answer.stage_that_fits = stage;
    }
  if (answer.ranks_that_fit) {
    answer.reason += "It would fit on " + ranks(*answer.ranks_that_fit) + " at " + name(*answer.stage_that_fits) + ".";
    return;
  }
  const auto flying = static_cast<double>(last.gathered_buckets.bytes() + last.gradient_slots.bytes());
  answer.reason += "No number of ranks up to " + count(most_ranks) + " would do";
  if (flying > question.room())
    answer.reason += ": what is in flight does not shrink with them, " + bytes(flying) +
                     " here; smaller buckets, more layers or less prefetch do.";
  else
    answer.reason += ".";
}

void recommend(const Question& question, Answer& answer) {
  const StageAnswer* lowest = nullptr;
  const StageAnswer* fastest = nullptr;
  for (const StageAnswer& stage : answer.stages) {
    if (!stage.fits) continue;
    if (!lowest) lowest = &stage;
    if (!fastest || stage.time.seconds < fastest->time.seconds * (1 - rounding)) fastest = &stage;
  }
  if (!lowest) return advise(question, answer);
  const StageAnswer& chosen = *std::find_if(answer.stages.begin(), answer.stages.end(), [&](const StageAnswer& stage) {
    return stage.fits && stage.time.seconds <= not_slower * fastest->time.seconds;
  });
  answer.recommended = chosen.stage;
  const auto fitting =
      std::count_if(answer.stages.begin(), answer.stages.end(), [](const StageAnswer& stage) { return stage.fits; });
  if (fitting == 1) {
    answer.reason = "It is the only stage that fits.";
    return;
  }
  if (&chosen == lowest) {
    answer.reason = "It is the lowest stage that fits";
    answer.reason += &chosen == fastest ? ", and none that fits is faster."
                                        : ", and the fastest, " + name(fastest->stage) + ", would save " +
                                              percent(1 - fastest->time.seconds / chosen.time.seconds) + " of a step.";
    return;
  }
  answer.reason = "It fits, and " + name(lowest->stage) + ", which does too, would take " +
                  percent(lowest->time.seconds / chosen.time.seconds - 1) + " longer.";
}

// Three digits, and the largest of six thousands' names that leaves at least one before the point.
std::string scaled(double value, const char* const (&names)[6]) {
  int power = 0;
  for (; value >= 999.5 && power < 5; ++power) value /= 1000;
  char text[48];
  const int digits = power == 0 || value >= 99.95 ? 0 : value >= 9.995 ? 1 : 2;
  std::snprintf(text, sizeof text, "%.*f%s", digits, value, names[power]);
  return text;
}

}  // namespace

int world(const Question& question, int i) {
  const int node = question.network.ranks_a_node;
  if (i <= node) return i;
  return static_cast<int>(std::min(index_t{i - node + 1} * node, index_t{std::numeric_limits<int>::max()}));
}

StageAnswer answer(const Question& question, int stage, int ranks) {
  const Footprint of = footprint(question.rule, question.precision, stage);
  const Sharding sharding = sharded(question, of, ranks);
  StageAnswer answer{.stage = stage, .plan = layout::make_plan(sharding, question.options, of)};
  answer.time =
      step_time(sharding, of, question.options, unit_seconds(question, sharding.layout(), of, ranks), question.network);
  answer.fits = fits(question, answer.plan);
  return answer;
}

Answer answer(const Question& question) {
  question.options.validate();
  question.network.validate(question.ranks);
  Answer found;
  for (int stage = 0; stage < 4; ++stage)
    found.stages[static_cast<std::size_t>(stage)] = answer(question, stage, question.ranks);
  recommend(question, found);
  return found;
}

std::string bytes(double n) { return scaled(n, {" B", " kB", " MB", " GB", " TB", " PB"}); }
std::string count(double n) {
  return scaled(n, {"", " thousand", " million", " billion", " trillion", " quadrillion"});
}

std::string ranks(int n) { return std::to_string(n) + (n == 1 ? " rank" : " ranks"); }

std::string seconds(double s) {
  const auto [shown, unit] = s >= 0.9995      ? std::pair(s, "s")
                             : s >= 0.9995e-3 ? std::pair(s * 1e3, "ms")
                                              : std::pair(s * 1e6, "us");
  char text[48];
  if (shown >= 1e6)
    std::snprintf(text, sizeof text, "%.2e %s", shown, unit);
  else
    std::snprintf(text, sizeof text, "%.*f %s", shown < 9.995 ? 2 : shown < 99.95 ? 1 : 0, shown, unit);
  return text;
}

}  // namespace plan
