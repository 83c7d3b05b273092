// Compares the step-time model (model/step_time.hpp, which tessera-plan prints) with runs: the engine on a simulated
// network, with compute that sleeps, so that a few processors can simulate all ranks. Exits with 1 for a difference of
// more than 10%.
#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <fstream>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include <CLI/CLI.hpp>

#include <tessera/model/simulated.hpp>
#include <tessera/model/step_time.hpp>
#include <tessera/tessera.hpp>

using namespace tessera;

namespace {

using Clock = std::chrono::steady_clock;

constexpr double tolerance = 0.10;

struct Setup {
  int ranks = 4;
  int ranks_per_node = 4;
  int units = 12;
  index_t unit_elements = 8192;  // small, so that moving the data takes almost no time
  double compute = 0.18;         // seconds of one forward and backward, a third of it forward
  double ratio = 1;              // time of all collectives of a pass at stages 0 to 2 / `compute`
  int units_a_bucket = 1;
  int micro_batches = 1;
  int prefetch = 1;

  Layout layout() const {
    Layout layout;
    for (int u = 0; u < units; ++u) {
      layout.add_unit("unit" + std::to_string(u));
      layout.add_tensor("weight", {unit_elements});
    }
    return layout;
  }
  Options options() const {
    return {.micro_batches = micro_batches,
            .bucket_bytes = units_a_bucket * unit_elements * index_t{sizeof(float)},
            .prefetch = prefetch};
  }
  // A link with half the bandwidth between nodes and small latencies, such that the ratio holds.
  Network network() const {
    Network network{.within = {20e-6, 1}, .between = {50e-6, 0.5}, .ranks_per_node = ranks_per_node};
    const double bytes = static_cast<double>(unit_elements * units) * sizeof(float);
    const double at_one = 2 * network.seconds(Collective::all_gather, bytes, ranks);
    network.within.bandwidth *= at_one / (ratio * compute);
    network.between.bandwidth *= at_one / (ratio * compute);
    return network;
  }
  UnitSeconds seconds() const { return {compute / units / 3, compute / units * 2 / 3, 0}; }
};

void sleep(double seconds) { std::this_thread::sleep_for(std::chrono::duration<double>(seconds)); }

double median(std::vector<double> values) {
  std::nth_element(values.begin(), values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2), values.end());
  return values[values.size() / 2];
}

template <class Stage>
double simulated(const Setup& setting, int steps) {
  const Layout layout = setting.layout();
  const UnitSeconds each = setting.seconds();
  Wire wire(setting.network(), setting.ranks);
  std::vector<double> times;
  run_ranks(setting.ranks, [&](Local& local) {
    Simulated comm(local, wire);
    Sharded<AdamW, Stage, Fp32, Simulated<Local>> optimizer(comm, layout, {}, AdamW{}, setting.options());
    optimizer.initialize([](Tensor, index_t) { return 0.0f; });
    for (int step = -2; step < steps; ++step) {  // the first two are not counted
      const auto began = Clock::now();
      for (int pass = 0; pass < setting.micro_batches; ++pass) {
        for (const Unit u : layout.forward()) {
          const auto weights = optimizer.gather(u);
          sleep(each.forward);
        }
        auto backward = optimizer.backward();
        for (const Unit u : layout.backward()) {
          const auto weights = optimizer.gather(u);
          static_cast<void>(backward.gradients(u));
          sleep(each.backward);
          backward.ready(u);
        }
      }
      optimizer.step();
      if (step >= 0 && comm.rank() == 0) times.push_back(std::chrono::duration<double>(Clock::now() - began).count());
    }
    optimizer.finish();
  });
  return median(times);
}

template <class Stage>
StepTime predicted(const Setup& setting) {
  const Options options = setting.options();
  const Sharding sharding(setting.layout(), setting.ranks, options.bucket_bytes / index_t{sizeof(float)});
  const std::vector<UnitSeconds> units(static_cast<std::size_t>(setting.units), setting.seconds());
  return step_time(sharding, footprint_of<AdamW, Stage, Fp32>(), options, units,
                   setting.network());
}

class Table {
 public:
  void say(const std::string& line) {
    std::puts(line.c_str());
    std::fflush(stdout);
    text_ << line << '\n';
  }

  template <class Stage>
  void row(const Setup& setting, int steps) {
    const StepTime model = predicted<Stage>(setting);
    const double run = simulated<Stage>(setting, steps);
    const double off = model.seconds / run - 1;
    worst_ = std::max(worst_, std::abs(off));
    char line[200];
    std::snprintf(line, sizeof line, "| %s | %d | %.2f | %d | %d | %d | %.1f | %.1f | %.3f | %.1f%% |", Stage::name,
                  setting.ranks / std::min(setting.ranks, setting.ranks_per_node), setting.ratio, setting.units_a_bucket,
                  setting.micro_batches, setting.prefetch, model.seconds * 1e3, run * 1e3, model.seconds / run,
                  100 * model.exposed / model.seconds);
    say(line);
  }

  void rows(const Setup& setting, int steps) {
    row<Stage0>(setting, steps);
    row<Stage1>(setting, steps);
    row<Stage2>(setting, steps);
    row<Stage3>(setting, steps);
  }

  double worst() const { return worst_; }
  std::string text() const { return text_.str(); }

 private:
  std::ostringstream text_;
  double worst_ = 0;
};

}  // namespace

int main(int argc, char** argv) {
  Setup base;
  std::vector<double> ratios{0.25, 1, 4};
  int steps = 7;
  std::string markdown;
  CLI::App app{"The step-time model against simulated runs"};
  app.add_option("--ranks", base.ranks, "threads that play ranks, an even number")->check(CLI::Range(2, 64));
  app.add_option("--compute", base.compute, "seconds of a forward and backward")->check(CLI::PositiveNumber);
  app.add_option("--ratios", ratios, "of communication to compute")->delimiter(',')->check(CLI::PositiveNumber);
  app.add_option("--steps", steps, "of which the median is taken")->check(CLI::PositiveNumber);
  app.add_option("--markdown", markdown, "also append the table to this file");
  CLI11_PARSE(app, argc, argv);
  base.ranks += base.ranks % 2;
  base.ranks_per_node = base.ranks;

  Table table;
  table.say(
      "| stage | nodes | communication / compute | units a bucket | micro-batches | prefetch | predicted ms | "
      "simulated ms | predicted / simulated | exposed |");
  table.say("| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |");
  for (const double ratio : ratios) {
    Setup setting = base;
    setting.ratio = ratio;
    table.rows(setting, steps);
  }
  Setup setting = base;
  setting.units_a_bucket = 4;
  table.rows(setting, steps);
  setting = base;
  setting.micro_batches = 3;
  table.rows(setting, steps);
  setting = base;
  setting.ranks_per_node = base.ranks / 2;
  table.rows(setting, steps);
  setting = base;
  for (const int prefetch : {0, 3}) {
    setting.prefetch = prefetch;
    table.row<Stage3>(setting, steps);
  }
  char line[80];
  std::snprintf(line, sizeof line, "\nFarthest apart: %.1f%%.", 100 * table.worst());
  table.say(line);
  if (!markdown.empty()) std::ofstream(markdown, std::ios::app) << table.text();
  return table.worst() <= tolerance ? 0 : 1;
}
