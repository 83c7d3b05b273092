#include "answer.hpp"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <numeric>
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
                             2 * of.rules[0].state_floats * of.state_bytes);
}

bool has_groups(const Footprint& of) { return of.parameters == placement::group; }

std::vector<UnitSeconds> unit_seconds(const Question& question, const Layout& layout, const Footprint& of, int ranks) {
  const int shards = of.state == placement::world ? ranks : of.state == placement::group ? question.group_size(ranks) : 1;
  const double updates = bytes_of_update(of) / question.memory_bandwidth / shards;
  std::vector<UnitSeconds> units;
  for (const Unit u : layout.forward()) {
    const auto elements = static_cast<double>(layout.trainable(u).size());
    const double pass = question.pass_seconds() * elements / static_cast<double>(question.parameters);
    units.push_back({pass / 3, pass * 2 / 3, elements * updates});
  }
  return units;
}

Sharding sharded(const Question& question, const Footprint& of, int ranks) {
  return Sharding(layers(question), ranks, question.options.bucket_bytes / of.gradient_bytes,
                  has_groups(of) ? question.group_size(ranks) : 1);
}

bool fits(const Question& question, const Plan& plan) { return static_cast<double>(plan.bytes()) <= question.room(); }

bool fits(const Question& question, const std::string& stage, int ranks) {
  const Footprint of = footprint(question.rule, question.precision, stage);
  return fits(question, layout::make_plan(sharded(question, of, ranks), question.options, of));
}

// Bytes fall with ranks, until what does not shrink with them is all that is left.
std::optional<int> least_ranks(const Question& question, const std::string& stage) {
  const Worlds worlds(question, stage);
  const int all = worlds.count(most_ranks);
  if (all == 0) return std::nullopt;
  int most = 1;  // of the first so many, the last is looked at
  while (most < all && !fits(question, stage, worlds[most - 1])) most = std::min(2 * most, all);
  if (!fits(question, stage, worlds[most - 1])) return std::nullopt;
  int least = most / 2;  // does not fit, or is none
  while (most - least > 1) {
    const int middle = (least + most) / 2;
    (fits(question, stage, worlds[middle - 1]) ? most : least) = middle;
  }
  return worlds[most - 1];
}

std::string percent(double ratio) {
  if (ratio < 0.01) return "less than 1%";
  char text[32];
  std::snprintf(text, sizeof text, "%.0f%%", 100 * ratio);
  return text;
}

// Why no stage fits, and where one would.
void advise(const Question& question, Answer& answer) {
  if (question.room() <= 0) {
    answer.reason = "No stage fits on any number of ranks: --activations, " + bytes(question.activations) +
                    ", leave nothing of the device's " + bytes(question.device_memory) +
                    ". Fewer tokens a micro-batch or recomputing activations do.";
    return;
  }
  const Plan& last = answer.stages.back().plan;
  answer.reason = "No stage fits: " + answer.stages.back().stage + " holds " +
                  bytes(static_cast<double>(last.bytes())) + " a rank, and " + bytes(question.room()) + " are free. ";
  for (const std::string& stage : stages())
    if (const auto ranks = least_ranks(question, stage);
        ranks && (!answer.ranks_that_fit || *ranks < *answer.ranks_that_fit)) {
      answer.ranks_that_fit = ranks;
      answer.stage_that_fits = stage;
    }
  if (answer.ranks_that_fit) {
    answer.reason += "It would fit on " + ranks(*answer.ranks_that_fit) + " at " + *answer.stage_that_fits + ".";
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
                                        : ", and the fastest, " + fastest->stage + ", would save " +
                                              percent(1 - fastest->time.seconds / chosen.time.seconds) + " of a step.";
    return;
  }
  answer.reason = "It fits, and " + lowest->stage + ", which does too, would take " +
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

Worlds::Worlds(const Question& question, const std::string& stage) : node_(question.network.ranks_per_node) {
  const bool groups = has_groups(footprint(question.rule, question.precision, stage));
  const index_t group = groups ? question.group_size(question.network.ranks_per_node) : 1;
  small_step_ = group;
  small_skipped_ = groups ? 1 : 0;
  small_ = std::max(node_ / small_step_ - small_skipped_, index_t{0});
  large_step_ = std::lcm(node_, group);
  large_skipped_ = large_step_ == std::max(node_, group) ? 1 : 0;
}

int Worlds::count(int ranks) const {
  const index_t small = std::clamp(ranks / small_step_ - small_skipped_, index_t{0}, small_);
  return static_cast<int>(small + std::max(ranks / large_step_ - large_skipped_, index_t{0}));
}

int Worlds::operator[](int i) const {
  const index_t n = index_t{i} + 1;
  return static_cast<int>(n <= small_ ? (n + small_skipped_) * small_step_
                                      : (n - small_ + large_skipped_) * large_step_);
}

StageAnswer answer(const Question& question, const std::string& stage, int ranks) {
  const Footprint of = footprint(question.rule, question.precision, stage);
  const Sharding sharding = sharded(question, of, ranks);
  StageAnswer answer{
      .stage = stage, .has_groups = has_groups(of), .plan = layout::make_plan(sharding, question.options, of)};
  answer.time =
      step_time(sharding, of, question.options, unit_seconds(question, sharding.layout(), of, ranks), question.network);
  answer.fits = fits(question, answer.plan);
  return answer;
}

Answer answer(const Question& question) {
  question.options.validate();
  question.network.validate(question.ranks);
  const int group = question.group_size(question.ranks);
  if (question.ranks % group != 0)
    throw OptionError(message({"--group-size: ", question.ranks, " ranks do not divide into groups of ", group}));
  const bool several = 1 < group && group < question.ranks;
  Answer found;
  for (const std::string& stage : stages())
    if (several || !has_groups(footprint(question.rule, question.precision, stage)))
      found.stages.push_back(answer(question, stage, question.ranks));
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
