// Draws layouts, rules, precisions, stages, world sizes, accumulation, bucket sizes and clipping, trains with each, and
// compares every bit with a serial reference that shares no code with the library.
//
//     property --tuples 10000 --seed 1 --jobs 2        (--only T: one tuple, described)
#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <mutex>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "memory_limit.hpp"
#include "reference/reference.hpp"
#include "training.hpp"

namespace {

using namespace tessera;

using reference::Kind;

// The rules to draw; Tuple::rule is an index. For a sanitizer (tests/CMakeLists.txt) three suffice: one with one state
// array, one with two, and one with tensor norms.
#ifdef TESSERA_FEW_POLICIES
constexpr bool few = true;
constexpr Kind kinds[] = {Kind::sgd, Kind::adam, Kind::lamb};
#else
constexpr bool few = false;
constexpr Kind kinds[] = {Kind::sgd,  Kind::adam,    Kind::adamw,   Kind::amsgrad,  Kind::nadam, Kind::radam,
                          Kind::lion, Kind::adagrad, Kind::rmsprop, Kind::adadelta, Kind::lamb,  Kind::lars,
                          Kind::schedule_free};
#endif

constexpr int steps = 3;

// hpZ of ZeRO++ (Wang et al. 2023): gradients and state over the world, parameters over groups.
struct StageHybridGradients : Stage<placement::group, placement::world, placement::world> {
  static constexpr const char* name = "StageHybridGradients";
};

// The pairs that are drawn with groups of ranks. Groups do not depend on the others: these have random bits by the place
// of an element, skipped steps, tensor norms, and weights that are exchanged for evaluation.
bool is_hybrid(Kind rule, reference::Precision precision) {
  using enum reference::Precision;
  return (rule == Kind::adam && (precision == bf16_stochastic || precision == fp16)) ||
         (rule == Kind::lamb && precision == bf16) || rule == Kind::schedule_free;
}
template <class Rule, class Precision>
constexpr bool hybrid = (std::is_same_v<Rule, Adam> &&
                         (std::is_same_v<Precision, Bf16Stochastic> || std::is_same_v<Precision, Fp16>)) ||
                        (std::is_same_v<Rule, Lamb> && std::is_same_v<Precision, Bf16>) ||
                        std::is_same_v<Rule, ScheduleFreeAdamW>;

struct Tuple {
  index_t number = 0;
  int world = 1, stage = 0, rule = 0, poisoned_leaf = -1;
  std::array<index_t, steps> micro_batches{};  // of each step, over all ranks
  reference::Precision precision = reference::Precision::fp32;
  std::vector<double> lr{0.1, 0.01};
  double weight_decay = 0, momentum = 0;
  Layout layout;
  Options options;
};

// The random numbers of one tuple.
class Draw {
 public:
  Draw(std::uint64_t seed, index_t number) : seed_(seed), number_(static_cast<std::uint64_t>(number)) {}
  index_t below(index_t n) {
    return static_cast<index_t>(testing::hash(seed_, number_, ++count_) % static_cast<std::uint64_t>(n));
  }
  bool once_in(index_t n) { return below(n) == 0; }
  template <class T>
  T one_of(std::initializer_list<T> of) {
    return of.begin()[below(static_cast<index_t>(of.size()))];
  }

 private:
  std::uint64_t seed_, number_, count_ = 0;
};

index_t draw_size(Draw& draw, index_t n) {
  if (draw.once_in(6)) return draw.one_of<index_t>({64 * n - 1, 64 * n, 64 * n + 1});
  return draw.one_of<index_t>({0, 1, n - 1, n, n + 1, 2, 3, 7, 13, 31, 61, 63, 64, 65, 97, 127, 128, 129, 191, 211});
}

Layout draw_layout(Draw& draw, int world) {
  Layout layout;
  const index_t units = 1 + draw.below(5);
  for (index_t u = 0; u < units; ++u) {
    layout.add_unit("u" + std::to_string(u));
    const index_t tensors = draw.below(4);
    for (index_t t = 0; t < tensors; ++t)
      layout.add_tensor("t" + std::to_string(t), {draw_size(draw, world)},
                        {.group = static_cast<int>(draw.below(2)), .frozen = draw.once_in(6)});
  }
  return layout;
}

// Near a boundary between units, where the cut into buckets changes; or one bucket per unit; or one bucket for all.
index_t draw_bucket_bytes(Draw& draw, const Layout& layout, index_t element) {
  const Unit unit{static_cast<int>(draw.below(layout.units()))};
  const index_t border = layout.trainable(unit).end + layout.frozen(unit).end;
  switch (draw.below(5)) {
    case 0: return 1;
    case 1: return index_t{1} << 30;
    case 2: return std::max<index_t>(1, border * element);
    case 3: return std::max<index_t>(1, (border - 1) * element);
    default: return (border + 1) * element;
  }
}

// All precisions with Adam, two with the first rules of the library, one with each other rule, to save compile time: a
// precision does not depend on rules.
reference::Precision draw_precision(Draw& draw, reference::Kind rule) {
  using enum reference::Precision;
  if (few) return rule == Kind::adam ? draw.one_of({bf16_stochastic, fp16}) : rule == Kind::lamb ? bf16 : fp32;
  if (rule == Kind::adam)
    return draw.one_of({fp32, bf16, bf16_reduce_fp32, bf16_remainder, bf16_stochastic, fp16, fp16_reduce_fp32});
  if (rule == Kind::sgd || rule == Kind::adamw || rule == Kind::lamb) return draw.one_of({fp32, bf16});
  return fp32;
}

Tuple draw_tuple(std::uint64_t seed, index_t number, int world) {
  Draw draw(seed, number);
  Tuple tuple;
  tuple.number = number;
  tuple.world = world;
  tuple.options.micro_batches = static_cast<int>(1 + draw.below(6));
  const index_t most = index_t{world} * tuple.options.micro_batches;
  const bool all = draw.once_in(3);  // else each step draws its own number, divisible by the world size or not
  for (index_t& micro_batches : tuple.micro_batches) micro_batches = all ? most : 1 + draw.below(most);
  tuple.rule = static_cast<int>(draw.below(static_cast<index_t>(std::size(kinds))));
  tuple.precision = draw_precision(draw, kinds[tuple.rule]);
  tuple.stage = static_cast<int>(draw.below(is_hybrid(kinds[tuple.rule], tuple.precision) ? 7 : 4));
  do tuple.options.group_size = static_cast<int>(draw.below(world + 1));  // 0: the world
  while (tuple.options.group_size > 0 && world % tuple.options.group_size != 0);
  tuple.weight_decay = draw.one_of({0.0, 0.1});
  tuple.momentum = draw.one_of({0.0, 0.9});
  tuple.layout = draw_layout(draw, world);
  tuple.options.seed = static_cast<std::uint64_t>(number);
  // Off in half of the tuples: comparing weights waits for collectives that would otherwise be in flight.
  tuple.options.check_weights = static_cast<int>(number % 2);
  tuple.options.check_gradients = number % 2 != 0;
  tuple.options.loss_scale = {.initial = draw.one_of({1.0, 65536.0, 1048576.0}), .growth_interval = 1};
  tuple.options.prefetch = static_cast<int>(draw.below(3));
  tuple.options.bucket_bytes =
      draw_bucket_bytes(draw, tuple.layout, tuple.precision == reference::Precision::fp32 ? 4 : 2);
  if (draw.once_in(2)) tuple.options.clip_norm = draw.one_of({0.01, 0.5, 1e6});
  if (draw.once_in(8)) tuple.poisoned_leaf = static_cast<int>(draw.below(tuple.micro_batches[0]));
  return tuple;
}

std::string describe(const Tuple& tuple) {
  std::string text = "tuple " + std::to_string(tuple.number) + ": world " + std::to_string(tuple.world) + ", stage " +
                     std::to_string(tuple.stage) + ", rule " + std::to_string(tuple.rule) + ", precision " +
                     std::to_string(static_cast<int>(tuple.precision)) + ", micro-batches";
  for (const index_t micro_batches : tuple.micro_batches) text += " " + std::to_string(micro_batches);
  tuple.options.for_each_number([&](const char* name, auto number) {
    text += std::string(", ") + name + " " + std::to_string(static_cast<double>(number));
  });
  text += ", units";
  for (const Unit u : tuple.layout.forward()) {
    text += " [";
    for (const Tensor t : tuple.layout.tensors(u))
      text += " " + std::to_string(tuple.layout.elements(t)) + (tuple.layout.frozen(t) ? "f" : "");
    text += " ]";
  }
  return text;
}

float leaf_gradient(const Tuple& tuple, index_t step, index_t leaf, Tensor t, index_t i) {
  if (step == 0 && leaf == tuple.poisoned_leaf && i == 0) return std::numeric_limits<float>::infinity();
  return testing::made_up_gradient(step + 10 * tuple.number, leaf, t, i);
}

testing::Outcome expected_of(const Tuple& tuple) {
  const Layout& layout = tuple.layout;
  reference::Problem problem;
  problem.precision = tuple.precision;
  problem.seed = tuple.options.seed;
  problem.loss_scale = {.scale = tuple.options.loss_scale.initial, .window = tuple.options.loss_scale.growth_interval};
  problem.clip_norm = std::isinf(tuple.options.clip_norm) ? 0 : tuple.options.clip_norm;
  for (const double lr : tuple.lr)
    problem.rules.push_back(
        {.kind = kinds[tuple.rule], .lr = lr, .momentum = tuple.momentum, .weight_decay = tuple.weight_decay});
  std::vector<Tensor> tensors;
  for (const Unit u : layout.forward()) {
    problem.unit_sizes.push_back(0);
    for (const Tensor t : layout.tensors(u)) {
      if (layout.frozen(t)) continue;
      tensors.push_back(t);
      problem.unit_sizes.back() += static_cast<std::size_t>(layout.elements(t));
      for (index_t i = 0; i < layout.elements(t); ++i) {
        problem.weights.push_back(testing::made_up_weight(t, i));
        problem.groups.push_back(static_cast<std::size_t>(layout.group(t)));
        problem.tensors.push_back(static_cast<std::size_t>(t.index));
        problem.places.push_back(static_cast<std::uint64_t>(layout.place(t).begin + i));
      }
    }
  }
  reference::Trainer trainer(problem);
  testing::Outcome outcome;
  for (index_t step = 0; step < steps; ++step) {
    std::vector<reference::Floats> leaves;
    for (index_t leaf = 0; leaf < tuple.micro_batches[to_size(step)]; ++leaf) {
      reference::Floats values;
      for (const Tensor t : tensors)
        for (index_t i = 0; i < layout.elements(t); ++i) {
          values.push_back(trainer.leaf(leaf_gradient(tuple, step, leaf, t, i)));
        }
      leaves.push_back(std::move(values));
    }
    trainer.step(leaves);
    outcome.norms.push_back(trainer.applied ? trainer.norm : 0);
    outcome.applied.push_back(trainer.applied);
  }
  std::size_t next = 0;
  for (const Tensor t : layout.tensors())
    for (index_t i = 0; i < layout.elements(t); ++i) {
      const float first = testing::made_up_weight(t, i);
      outcome.parameters.push_back(layout.frozen(t) ? trainer.first_parameter(first) : trainer.parameter[next++]);
    }
  return outcome;
}

template <class Rule, class Stage, class Precision>
testing::Outcome train(Local& comm, const Tuple& tuple, const std::vector<Rule>& rules) {
  Sharded<Rule, Stage, Precision> optimizer(comm, tuple.layout, {}, rules, tuple.options);
  optimizer.initialize(testing::made_up_weight);
  testing::Outcome outcome;
  for (index_t step = 0; step < steps; ++step) {
    const layout::MicroBatches step_has{tuple.micro_batches[to_size(step)], tuple.world};
    optimizer.begin_step(step_has.count);
    for (int k = 0; k < step_has.passes(); ++k)
      testing::run_pass(
          optimizer, step, step_has.before(k) + comm.rank(),
          [&](index_t s, index_t leaf, Tensor t, index_t i) { return leaf_gradient(tuple, s, leaf, t, i); });
    const engine::Report report = optimizer.step();
    outcome.norms.push_back(report.applied() ? report.gradient_norm() : 0);
    outcome.applied.push_back(report.applied());
  }
  outcome.parameters = testing::parameters_of(optimizer);
  if (optimizer.bytes() != optimizer.plan().bytes() || optimizer.peak_bytes() != optimizer.bytes())
    outcome.parameters.clear();
  return outcome;
}

template <class Rule, class Precision>
testing::Outcome train(Local& comm, const Tuple& tuple, const std::vector<Rule>& rules) {
  switch (tuple.stage) {
    case 0: return train<Rule, Stage0, Precision>(comm, tuple, rules);
    case 1: return train<Rule, Stage1, Precision>(comm, tuple, rules);
    case 2: return train<Rule, Stage2, Precision>(comm, tuple, rules);
    case 3: return train<Rule, Stage3, Precision>(comm, tuple, rules);
  }
  if constexpr (hybrid<Rule, Precision>)
    switch (tuple.stage) {
      case 4: return train<Rule, StageHybrid, Precision>(comm, tuple, rules);
      case 5: return train<Rule, StageHybridState, Precision>(comm, tuple, rules);
      case 6: return train<Rule, StageHybridGradients, Precision>(comm, tuple, rules);
    }
  throw std::logic_error("a stage that was not to be drawn");
}

template <class Rule>
testing::Outcome train(Local& comm, const Tuple& tuple, Rule rule) {
  std::vector<Rule> rules;
  for (int group = 0; group < tuple.layout.groups(); ++group) {
    rule.lr = tuple.lr[group];
    rules.push_back(rule);
  }
  using enum reference::Precision;
  constexpr bool adam = std::is_same_v<Rule, Adam>, lamb = std::is_same_v<Rule, Lamb>;
  if constexpr (!few || (!adam && !lamb))
    if (tuple.precision == fp32) return train<Rule, Fp32>(comm, tuple, rules);
  if constexpr (adam) {
    if (tuple.precision == bf16_stochastic) return train<Rule, Bf16Stochastic>(comm, tuple, rules);
    if (tuple.precision == fp16) return train<Rule, Fp16>(comm, tuple, rules);
  }
  if constexpr (adam && !few) {
    if (tuple.precision == bf16_reduce_fp32) return train<Rule, Bf16ReduceFp32>(comm, tuple, rules);
    if (tuple.precision == bf16_remainder) return train<Rule, Bf16Remainder>(comm, tuple, rules);
    if (tuple.precision == fp16_reduce_fp32) return train<Rule, Fp16ReduceFp32>(comm, tuple, rules);
  }
  if constexpr (lamb || (!few && (adam || std::is_same_v<Rule, Sgd> || std::is_same_v<Rule, AdamW>)))
    if (tuple.precision == bf16) return train<Rule, Bf16>(comm, tuple, rules);
  throw std::logic_error("a precision that was not to be drawn");
}

testing::Outcome train(Local& comm, const Tuple& tuple) {
  const double weight_decay = tuple.weight_decay;
  // The reference has Adam's default hyperparameters for all rules.
  switch (kinds[tuple.rule]) {
    case Kind::sgd: return train(comm, tuple, Sgd{.momentum = tuple.momentum, .weight_decay = weight_decay});
    case Kind::adam: return train(comm, tuple, Adam{.weight_decay = weight_decay});
    case Kind::lamb: return train(comm, tuple, Lamb{.epsilon = 1e-8, .weight_decay = weight_decay});
#ifndef TESSERA_FEW_POLICIES
    case Kind::adamw: return train(comm, tuple, AdamW{.weight_decay = weight_decay});
    case Kind::amsgrad: return train(comm, tuple, AMSGrad{.weight_decay = weight_decay});
    case Kind::nadam: return train(comm, tuple, NAdam{.weight_decay = weight_decay});
    case Kind::radam: return train(comm, tuple, RAdam{.weight_decay = weight_decay});
    case Kind::lion: return train(comm, tuple, Lion{.beta2 = 0.999, .weight_decay = weight_decay});
    case Kind::lars: return train(comm, tuple, Lars{.momentum = tuple.momentum, .weight_decay = weight_decay});
    case Kind::adagrad: return train(comm, tuple, Adagrad{.weight_decay = weight_decay, .epsilon = 1e-8});
    case Kind::rmsprop: return train(comm, tuple, RMSprop{.weight_decay = weight_decay});
    case Kind::schedule_free: return train(comm, tuple, ScheduleFreeAdamW{.weight_decay = weight_decay});
    case Kind::adadelta: return train(comm, tuple, Adadelta{.epsilon = 1e-8, .weight_decay = weight_decay});
#else
    default: break;
#endif
  }
  return {};
}

// Compares bits, so that -0 and 0 differ.
bool same_bits(const testing::Outcome& a, const testing::Outcome& b) {
  if (a.norms != b.norms || a.applied != b.applied || a.parameters.size() != b.parameters.size()) return false;
  for (std::size_t i = 0; i < a.parameters.size(); ++i)
    if (std::bit_cast<std::uint32_t>(a.parameters[i]) != std::bit_cast<std::uint32_t>(b.parameters[i])) return false;
  return true;
}

class Run {
 public:
  Run(std::uint64_t seed, index_t tuples) : seed_(seed), tuples_(tuples) {}

  // Tuples with one world size share their ranks' threads: starting threads would take most of the time.
  void work() {
    for (index_t first = next_.fetch_add(batch); first < tuples_; first = next_.fetch_add(batch))
      run(first, std::min(first + batch, tuples_));
  }

  void run(index_t first, index_t last) {
    // From 1 to 16, small ones more often, since many threads take long.
    const std::uint64_t number = testing::hash(seed_, static_cast<std::uint64_t>(first / batch));
    const int world = static_cast<int>(1 + (number >> 8) % (1 + number % 16));
    std::vector<Tuple> tuples;
    std::vector<testing::Outcome> expected;
    for (index_t number = first; number < last; ++number) {
      tuples.push_back(draw_tuple(seed_, number, world));
      expected.push_back(expected_of(tuples.back()));
    }
    // In some batches the workers' threads move even the smallest collectives.
    const bool workers = first / batch % 4 == 0;
    try {
      run_ranks(
          world,
          [&](Local& comm) {
            for (std::size_t t = 0; t < tuples.size(); ++t)
              if (!same_bits(train(comm, tuples[t]), expected[t]))
                fail(tuples[t], "rank " + std::to_string(comm.rank()) + " differs from the reference");
          },
          LocalOptions{.inline_bytes = workers ? 0 : LocalOptions{}.inline_bytes});
    } catch (const std::exception& error) {
      fail(tuples.front(), std::string("or one of the next ") + std::to_string(batch) + ": " + error.what());
    }
    done_ += last - first;
  }

  index_t done() const { return done_; }
  index_t failures() const { return failures_; }

  static constexpr index_t batch = 50;

 private:
  void fail(const Tuple& tuple, const std::string& why) {
    const std::lock_guard lock(printing_);
    if (++failures_ <= 10) std::printf("%s\n    %s\n", describe(tuple).c_str(), why.c_str());
  }

  std::uint64_t seed_;
  index_t tuples_;
  std::atomic<index_t> next_ = 0, done_ = 0, failures_ = 0;
  std::mutex printing_;
};

}  // namespace

int main(int argc, char** argv) {
  index_t tuples = 10000, jobs = 1, only = -1;
  std::uint64_t seed = 1;
  for (int a = 1; a + 1 < argc; a += 2) {
    const std::string name = argv[a];
    const index_t value = std::atoll(argv[a + 1]);
    if (name == "--tuples")
      tuples = value;
    else if (name == "--seed")
      seed = static_cast<std::uint64_t>(value);
    else if (name == "--jobs")
      jobs = value;
    else if (name == "--only")
      only = value;
    else
      return std::fprintf(stderr, "property: unknown option %s\n", name.c_str()), 2;
  }
  limit_memory(static_cast<std::uint64_t>(jobs) * test_memory);
  Run run(seed, only >= 0 ? only + 1 : tuples);
  if (only >= 0) {
    const index_t first = only / Run::batch * Run::batch;
    run.run(first, only + 1);
  } else {
    std::vector<std::thread> threads;
    for (index_t j = 0; j < jobs; ++j) threads.emplace_back([&] { run.work(); });
    std::thread progress([&] {
      for (index_t reported = 0; run.done() < tuples;) {
        std::this_thread::sleep_for(std::chrono::milliseconds(200));
        if (run.done() - reported < std::max<index_t>(tuples / 20, 1)) continue;
        reported = run.done();
        std::printf("%lld of %lld tuples\n", static_cast<long long>(reported), static_cast<long long>(tuples));
        std::fflush(stdout);
      }
    });
    for (std::thread& thread : threads) thread.join();
    progress.join();
  }
  std::printf("property: seed %llu, %lld tuples, %lld differ from the serial reference\n",
              static_cast<unsigned long long>(seed), static_cast<long long>(run.done()),
              static_cast<long long>(run.failures()));
  return run.failures() == 0 && run.done() > 0 ? 0 : 1;
}
