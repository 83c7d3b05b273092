// How the library's bookkeeping scales with the model: from names to a built optimizer and one step of it, for models
// with many tensors, units and ties but few elements; and the cost of a range of a flat layout with many buckets.
#include <algorithm>
#include <cstdio>
#include <ctime>
#include <fstream>
#include <functional>
#include <limits>
#include <sstream>
#include <string>
#include <vector>

#if __has_include(<malloc.h>)
#include <malloc.h>
#endif

#include <CLI/CLI.hpp>

#include <tessera/tessera.hpp>

using namespace tessera;

namespace {

enum class Shape { one_unit, units, users_of_one, chain, user_of_all };

struct Model {
  const char* name;
  Shape shape;
};

constexpr Model models[] = {{"tensors in one unit", Shape::one_unit},
                            {"units of one tensor", Shape::units},
                            {"units, all tied to the first", Shape::users_of_one},
                            {"units, each tied to the one before", Shape::chain},
                            {"units, the last one tied to all others", Shape::user_of_all}};

// Processor time: nothing here waits, and other programs may use the machine meanwhile.
double seconds_of(const std::function<void()>& work) {
  const std::clock_t begin = std::clock();
  work();
  return static_cast<double>(std::clock() - begin) / CLOCKS_PER_SEC;
}

Layout layout_of(Shape shape, int n) {
  Layout layout;
  for (int i = 0; i < n; ++i) {
    if (shape != Shape::one_unit || i == 0) layout.add_unit("blocks." + std::to_string(i));
    layout.add_tensor("weight." + std::to_string(i), {3});
  }
  for (int i = 1; i < n; ++i) {
    if (shape == Shape::users_of_one) layout.tie(Unit{i}, Unit{0});
    if (shape == Shape::chain) layout.tie(Unit{i}, Unit{i - 1});
    if (shape == Shape::user_of_all) layout.tie(Unit{n - 1}, Unit{i - 1});
  }
  return layout;
}

// One unit per bucket, at stage 3, which has the bookkeeping of gradients and gathered parameters.
using Optimizer = Sharded<Lamb, Stage3, Fp32, Self>;
constexpr Options options{.bucket_bytes = 1};

void step(Optimizer& optimizer, Shape shape) {
  const Layout& layout = optimizer.layout();
  const auto owners_of = [&](Unit u, auto visit) {
    if (u.index == 0) return;
    if (shape == Shape::users_of_one) visit(Unit{0});
    if (shape == Shape::chain) visit(Unit{u.index - 1});
    if (shape == Shape::user_of_all && u.index == layout.units() - 1)
      for (int owner = 0; owner < u.index; ++owner) visit(Unit{owner});
  };
  for (const Unit u : layout.forward()) {
    static_cast<void>(optimizer.gather(u));
    owners_of(u, [&](Unit owner) { static_cast<void>(optimizer.gather(owner)); });
  }
  auto pass = optimizer.backward();
  for (const Unit u : layout.backward()) {
    static_cast<void>(optimizer.gather(u));
    owners_of(u, [&](Unit owner) { static_cast<void>(optimizer.gather(owner)), pass.gradients(owner); });
    pass.gradients(u);
    pass.ready(u);
  }
  optimizer.step();
}

// Seconds to create the layout, find its names, plan, build an optimizer, and make a step.
std::vector<double> seconds_of(Shape shape, int n) {
  std::vector<double> seconds;
  const auto measure = [&](auto work) { seconds.push_back(seconds_of(work)); };
  Layout layout;
  measure([&] { layout = layout_of(shape, n); });
  std::vector<std::string> names;
  for (const Tensor t : layout.tensors()) names.push_back(layout.name(t));
  measure([&] {
    for (const Tensor t : layout.tensors())
      if (layout.find(names[to_size(t.index)]) != t || layout.name_at(layout.offset(t)) != names[to_size(t.index)])
        throw LayoutError("another tensor was found");
  });
  measure([&] { static_cast<void>(Optimizer::plan(layout, 8, options)); });
  const Self self;
  measure([&] {
    Optimizer optimizer(self, layout, {}, Lamb{}, options);
    optimizer.initialize([](Tensor, index_t) { return 1.0f; });
    measure([&] { step(optimizer, shape); });
  });
  const double of_step = seconds[3];
  seconds[3] = seconds[4] - of_step;
  seconds[4] = of_step;
  return seconds;
}

// The minimum over all rounds, since other programs share the processor's caches.
std::vector<double> least_seconds_of(Shape shape, int n, int rounds) {
  std::vector<double> least = seconds_of(shape, n);
  for (int round = 1; round < rounds; ++round) {
    const auto seconds = seconds_of(shape, n);
    for (std::size_t k = 0; k < least.size(); ++k) least[k] = std::min(least[k], seconds[k]);
  }
  return least;
}

// Nanoseconds per call for a bucket's range, over all buckets from the last to the first.
template <class Call>
double nanoseconds_a_call(int buckets, int rounds, Call call) {
  const int times = (1 << 18) / buckets;
  double least = std::numeric_limits<double>::infinity();
  for (int round = 0; round < rounds; ++round)
    least = std::min(least, seconds_of([&] {
                       for (int time = 0; time < times; ++time)
                         for (int b = buckets - 1; b >= 0; --b) call(Range{b * block, (b + 1) * block});
                     }));
  return least * 1e9 / buckets / times;
}

template <class... Arguments>
std::string text(const char* format, Arguments... arguments) {
  char line[300];
  std::snprintf(line, sizeof line, format, arguments...);
  return line;
}

}  // namespace

int main(int argc, char** argv) {
  int rounds = 5;
  std::string markdown;
  CLI::App app{"How the bookkeeping of layouts and optimizers grows with the model"};
  app.add_option("--rounds", rounds, "of which the least counts")->check(CLI::PositiveNumber);
  app.add_option("--markdown", markdown, "also append the tables to this file");
  CLI11_PARSE(app, argc, argv);

#if defined(M_MMAP_THRESHOLD) && defined(M_TRIM_THRESHOLD)
  // The process keeps freed memory. Otherwise the system clears new pages for the larger model, but not for the smaller
  // one.
  mallopt(M_MMAP_THRESHOLD, 1 << 30);
  mallopt(M_TRIM_THRESHOLD, 1 << 30);
#endif
  std::ostringstream table;
  const auto say = [&](const std::string& line) {
    std::puts(line.c_str());
    std::fflush(stdout);
    table << line << '\n';
  };
  say("| model | processor seconds: layout | find and name_at, each tensor | plan | optimizer | step |");
  say("| --- | ---: | ---: | ---: | ---: | ---: |");
  for (const Model& model : models) {
    const auto smaller = least_seconds_of(model.shape, 10'000, rounds);
    const auto larger = least_seconds_of(model.shape, 100'000, rounds);
    std::string rows[] = {text("| 10000 %s |", model.name), "| 100000 |", "| ratio |"};
    for (std::size_t k = 0; k < smaller.size(); ++k) {
      rows[0] += text(" %.4f |", smaller[k]);
      rows[1] += text(" %.4f |", larger[k]);
      rows[2] += text(" %.1f |", larger[k] / smaller[k]);
    }
    for (const std::string& row : rows) say(row);
  }
  say("");
  say("| buckets of a flat layout | ns: gather(begin, end) | Readiness::mark(range) and depart() |");
  say("| ---: | ---: | ---: |");
  for (const int buckets : {64, 512, 4096, 32'768}) {
    const Self self;
    std::vector<float> gradients(to_size(buckets * block));
    Sharded<Sgd, Stage1, Fp32, Self> optimizer(self, Layout::flat(buckets * block), {.gradients = gradients}, Sgd{},
                                               options);
    optimizer.initialize([](Tensor, index_t) { return 1.0f; });
    const Sharding sharding(optimizer.layout(), 1, 1);
    layout::Readiness readiness(sharding);
    const double gather = nanoseconds_a_call(
        buckets, rounds, [&](Range range) { static_cast<void>(optimizer.gather(range.begin, range.end)); });
    const double ready = nanoseconds_a_call(buckets, rounds, [&](Range range) {
      if (readiness.complete()) readiness.begin();
      readiness.mark(range);
      readiness.depart();
    });
    say(text("| %d | %.0f | %.0f |", buckets, gather, ready));
  }
  if (!markdown.empty()) std::ofstream(markdown, std::ios::app) << table.str();
}
