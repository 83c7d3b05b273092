// How much of communication overlaps with compute: the time of a step over the larger of the two, on a simulated
// network. Compute sleeps (or burns, with one processor per rank), so that two processors can simulate eight ranks.
// Buffers are small, and the bandwidth is scaled down with them. All times are scaled up until they are far longer than
// a sleeping thread needs to wake up. Communication counts as bytes over bandwidth, so latencies count as a loss.
//
// Beside each figure is the lower bound of every schedule: the first gather and the last bucket's reduction cannot
// overlap with compute, gathers overlap only with forward, and reductions only with backward.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <ctime>
#include <fstream>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#if __has_include(<sys/prctl.h>)
#include <sys/prctl.h>
#endif

#include <CLI/CLI.hpp>

#include <tessera/model/simulated.hpp>
#include <tessera/tessera.hpp>
#include <tessera/timeline/trace_events.hpp>

using namespace tessera;

namespace {

struct Setup {
  int ranks = 4;
  int units = 12;
  double unit_mib = 16;    // of gradients, and of parameters
  double latency = 10e-6;  // seconds per message
  double bandwidth = 12.5e9;
  double backward = 2;       // compute of backward / compute of forward
  double stretch_to = 0.15;  // seconds of the larger of compute and communication
  int steps = 7;
  bool burn = false;
};

struct Case {
  int stage = 0;
  double bucket_mib = 4;
  int prefetch = 1;
  double ratio = 1;  // compute / communication
};

constexpr index_t elements_a_unit = 16384;

constexpr double element_bytes = sizeof(float);

// All times in seconds of the scaled clock.
struct Model {
  Model(const Setup& setting, const Case& of)
      : ranks(setting.ranks),
        stage(of.stage),
        layout(even_units(setting.units)),
        options{.bucket_bytes = static_cast<index_t>(of.bucket_mib * (1 << 20) * shrink(setting)),
                .prefetch = of.prefetch},
        sharding(layout, ranks, options.bucket_bytes / static_cast<index_t>(element_bytes)) {
    // the time over a link of one byte per second
    network.within.bandwidth = 1;
    double bytes = 0;
    for (int b = 0; b < sharding.buckets(); ++b) bytes += (gathered_again(b) ? 3 : 2) * once(b);
    communication = setting.stretch_to / std::max(1.0, of.ratio);
    compute = of.ratio * communication;
    forward = compute / setting.units / (1 + setting.backward);
    backward = compute / setting.units - forward;
    const double real_seconds = bytes / shrink(setting) / setting.bandwidth;
    network.within = {setting.latency * communication / real_seconds, bytes / communication};
  }

  double larger() const { return std::max(compute, communication); }

  // Each phase is a flow shop with two machines, wire and processor, and a fixed order of items. In stage 3's backward
  // each item uses the wire before and after the processor.
  double bound() const {
    double wire = 0, processor = 0;
    for (int b = 0; b < sharding.buckets(); ++b) {
      if (stage > 0) wire += once(b);
      processor = std::max(processor, wire) + forward * units(b);
    }
    const double turn = processor;
    double gathered = turn, reduced = 0, busy = 0;
    for (int b = sharding.buckets() - 1; b >= 0; --b) {
      gathered += (gathered_again(b) ? 1 : 0) * once(b);
      processor = std::max(processor, gathered) + backward * units(b);
      reduced = std::max(processor, reduced) + (stage == 0 ? 2 : 1) * once(b);
      busy += (gathered_again(b) ? 2 : 1) * once(b);
    }
    if (stage == 3) reduced = std::max(reduced, std::max(turn, wire) + busy);
    const auto norm = static_cast<double>(engine::AgreementWords::size(ranks, sharding.layout().units()) * index_t{sizeof(std::uint64_t)});
    return reduced + network.seconds(Collective::all_reduce, norm, ranks);
  }

  static Layout even_units(int units) {
    Layout layout;
    for (int u = 0; u < units; ++u) {
      layout.add_unit("unit " + std::to_string(u));
      layout.add_tensor("weight", {elements_a_unit});
    }
    return layout;
  }

  static double shrink(const Setup& setting) {
    return static_cast<double>(elements_a_unit) * element_bytes / (setting.unit_mib * (1 << 20));
  }

  // Seconds of a bucket's gather or reduction.
  double once(int b) const {
    return network.seconds(Collective::all_gather,
                           static_cast<double>(sharding.range(b, 0).size()) * element_bytes, ranks);
  }
  // Whether backward gathers the bucket too: those that forward used last are still in memory.
  bool gathered_again(int b) const { return stage == 3 && b < sharding.buckets() - 1 - options.prefetch; }
  int units(int b) const { return sharding.bucket(b).last_unit - sharding.bucket(b).first_unit; }

  int ranks;
  int stage;
  Layout layout;
  Options options;
  Sharding sharding;
  Network network;
  double compute = 0, communication = 0;
  double forward = 0, backward = 0;  // per unit
};

double median(std::vector<double> values) {
  std::nth_element(values.begin(), values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2), values.end());
  return values[values.size() / 2];
}

// Work with a fixed number of instructions, whatever else runs.
void burn(double rounds) {
  volatile float end = 1;
  float x = end;
  for (double i = 0; i < rounds; ++i) x = x * 0.999f + 0.001f;
  end = x;
}

// Rounds per second of a processor without other load.
double rounds_a_second() {
  constexpr double rounds = 1e8;
  const std::clock_t begin = std::clock();
  burn(rounds);
  return rounds * CLOCKS_PER_SEC / static_cast<double>(std::clock() - begin);
}

template <class Stage>
double seconds_a_step(const Setup& setting, const Model& model, double rounds) {
  std::vector<double> seconds;
  Wire wire(model.network, setting.ranks);
  run_ranks(setting.ranks, [&](Local& local) {
    Simulated comm(local, wire);
    Sharded<AdamW, Stage, Fp32, Simulated<Local>> optimizer(comm, model.layout, {}, AdamW{}, model.options);
    optimizer.initialize([](Tensor, index_t) { return 0.0f; });
    const auto work = [&](double time) {
      if (setting.burn)
        burn(time * rounds);
      else
        std::this_thread::sleep_for(std::chrono::duration<double>(time));
    };
    core::Clock::time_point last = core::Clock::now();
    for (int step = 0; step < setting.steps + 2; ++step) {
      for (const Unit u : model.layout.forward()) {
        const auto weights = optimizer.gather(u);
        work(model.forward);
      }
      auto pass = optimizer.backward();
      for (const Unit u : model.layout.backward()) {
        const auto weights = optimizer.gather(u);
        static_cast<void>(pass.gradients(u));
        work(model.backward);
        pass.ready(u);
      }
      optimizer.step();
      const core::Clock::time_point now = core::Clock::now();
      if (comm.rank() == 0 && step >= 2) seconds.push_back(core::seconds_of(now - last));  // steady state
      last = now;
    }
  });
  return median(seconds);
}

double seconds_a_step(const Setup& setting, const Model& model, int stage, double rounds) {
  switch (stage) {
    case 0: return seconds_a_step<Stage0>(setting, model, rounds);
    case 1: return seconds_a_step<Stage1>(setting, model, rounds);
    case 2: return seconds_a_step<Stage2>(setting, model, rounds);
    default: return seconds_a_step<Stage3>(setting, model, rounds);
  }
}

std::string text(const char* format, auto... values) {
  char buffer[160];
  std::snprintf(buffer, sizeof buffer, format, values...);
  return buffer;
}

}  // namespace

int main(int argc, char** argv) {
  Setup setting;
  std::vector<int> stages{0, 1, 2, 3}, prefetches{1};
  std::vector<double> ratios{0.25, 0.5, 1, 2, 4}, buckets{4, 32, 64};
  std::string markdown, trace;
  CLI::App app{"The time of a step over max(compute, communication), and the bound of it, on a simulated network"};
  app.add_option("--ranks", setting.ranks, "ranks, in one ring")->check(CLI::Range(2, 64));
  app.add_option("--units", setting.units, "units of the model")->check(CLI::PositiveNumber);
  app.add_option("--unit-mib", setting.unit_mib, "MiB of a unit's gradients")->check(CLI::PositiveNumber);
  app.add_option("--latency", setting.latency, "seconds a message")->check(CLI::NonNegativeNumber);
  app.add_option("--bandwidth", setting.bandwidth, "bytes a second")->check(CLI::PositiveNumber);
  app.add_option("--backward", setting.backward, "backward's compute over forward's")->check(CLI::PositiveNumber);
  app.add_option("--stage", stages, "stages")->delimiter(',')->check(CLI::Range(0, 3));
  app.add_option("--bucket-mib", buckets, "Options::bucket_bytes, in MiB")->delimiter(',')->check(CLI::PositiveNumber);
  app.add_option("--prefetch", prefetches, "Options::prefetch, stage 3")->delimiter(',')->check(CLI::NonNegativeNumber);
  app.add_option("--ratio", ratios, "compute over communication")->delimiter(',')->check(CLI::PositiveNumber);
  app.add_option("--stretch-to", setting.stretch_to, "seconds of the larger of the two")->check(CLI::PositiveNumber);
  app.add_option("--steps", setting.steps, "steps measured, of which the median counts")->check(CLI::PositiveNumber);
  app.add_flag("--burn", setting.burn, "compute burns the processor (use no more ranks than there are processors)");
  app.add_option("--markdown", markdown, "also append the table to this file");
  app.add_option("--timeline", trace, "file for what ran when in the last setting, for ui.perfetto.dev");
  CLI11_PARSE(app, argc, argv);

#if __has_include(<sys/prctl.h>)
  prctl(PR_SET_TIMERSLACK, 1);  // threads wake at the requested time, not up to 50 microseconds later
#endif
  const double rounds = setting.burn ? rounds_a_second() : 0;
  std::ostringstream table;
  const auto say = [&](const std::string& line) {
    std::puts(line.c_str());
    std::fflush(stdout);
    table << line << '\n';
  };
  std::string head = "| stage | bucket MiB | prefetch |", rule = "| --- | --- | --- |";
  for (const double ratio : ratios) head += text(" %g |", ratio), rule += " --- |";
  say(head);
  say(rule);
  for (const int stage : stages)
    for (const double bucket : buckets)
      for (const int prefetch : prefetches) {
        if (stage < 3 && prefetch != prefetches.front()) continue;  // no prefetch at these stages
        std::string row =
            text("| %d | %g | ", stage, bucket) + (stage == 3 ? std::to_string(prefetch) : std::string("")) + " |";
        for (const double ratio : ratios) {
          Model model(setting, {stage, bucket, prefetch, ratio});
          Timeline timeline;
          if (!trace.empty()) model.options.timeline = &timeline;
          const double seconds = seconds_a_step(setting, model, stage, rounds);
          if (!trace.empty()) write_trace_events(timeline, trace);
          row += text(" %.3f (%.3f) |", seconds / model.larger(), model.bound() / model.larger());
        }
        say(row);
      }
  if (!markdown.empty()) std::ofstream(markdown, std::ios::app) << table.str();
}
