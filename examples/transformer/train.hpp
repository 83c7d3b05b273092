// The training loop, written once: only the template arguments differ by stage, rule, precision and machine.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <numeric>
#include <span>
#include <string>
#include <vector>

#include <tessera/rule/schedule.hpp>
#include <tessera/sharded.hpp>

#include "common/ledger.hpp"
#include "common/policies.hpp"
#include "transformer/model.hpp"
#include "transformer/options.hpp"
#include "transformer/outcome.hpp"
#include "transformer/text.hpp"

namespace transformer {

/// The machine of a model; transformer/work.hpp has the host's:
///   Windows   a text in memory that the model reads: put_in(starts)
///   Work      a rank's activations: load(windows, first), the calls of transformer/model.hpp in forward and backward,
///             loss(scale, to), with both arguments in executor memory, and logits(), in host memory
template <class Windows_, class Work_>
struct Machine {
  using Windows = Windows_;
  using Work = Work_;
};

/// -log of the probability that `logits` give to `target`, in nats.
inline double surprise(std::span<const float> logits, int target) {
  const float largest = *std::max_element(logits.begin(), logits.end());
  float total = 0;
  for (const float logit : logits) total += std::exp(logit - largest);
  return static_cast<double>(std::log(total) - (logits[target] - largest));
}

/// The loss of each window of a text, and how many of its bytes are predicted correctly. One number per window, so that
/// the sum does not depend on which rank has which window.
struct Scores {
  std::vector<double> losses;
  std::vector<std::int64_t> right;

  double loss() const { return std::reduce(losses.begin(), losses.end()) / static_cast<double>(losses.size()); }
  double accuracy(int context) const {
    return static_cast<double>(std::reduce(right.begin(), right.end())) / (static_cast<double>(right.size()) * context);
  }
};

/// Scores the text's windows, distributed over the ranks. All ranks make the same number of passes, and all get the
/// scores.
template <class Machine, class Comm, class Optimizer>
Scores evaluate(Comm& comm, example::Ledger<Comm>& ledger, Optimizer& optimizer, const Model& model,
                std::span<const std::uint8_t> text, std::int64_t count) {
  constexpr int sequences = 8;
  const int context = model.shape.context;
  const std::int64_t rounds = (count + comm.size() * sequences - 1) / (comm.size() * sequences);
  std::vector<std::int64_t> starts;
  for (std::int64_t w = 0; w < rounds * comm.size() * sequences; ++w)
    starts.push_back(std::min(w, count - 1) * context);
  typename Machine::Windows windows(comm.executor(), text);
  windows.put_in(starts);
  typename Machine::Work work(comm.executor(), model, sequences);
  Scores scores{std::vector<double>(count), std::vector<std::int64_t>(count)};
  for (std::int64_t round = 0; round < rounds; ++round) {
    const std::int64_t first = (round * comm.size() + comm.rank()) * sequences;
    work.load(windows, first);
    forward(work, optimizer);
    const std::span<const float> all = work.logits();
    for (std::int64_t w = first; w < std::min(first + sequences, count); ++w) {
      for (int i = 0; i < context; ++i) {
        const auto logits = all.subspan(((w - first) * context + i) * vocabulary, vocabulary);
        const int target = text[starts[w] + i + 1];
        scores.losses[w] += surprise(logits, target) / context;
        scores.right[w] += std::max_element(logits.begin(), logits.end()) - logits.begin() == target;
      }
    }
  }
  ledger.add_up(std::span(scores.losses));
  ledger.add_up(std::span(scores.right));
  return scores;
}

/// `count` bytes that follow the prompt of context bytes, drawn from the model at a temperature. Each rank draws the
/// same.
template <class Machine, class Executor, class Optimizer>
std::string sample(const Executor& executor, Optimizer& optimizer, const Model& model, const std::string& prompt,
                   int count, std::uint64_t seed) {
  constexpr float temperature = 0.7f;
  const int context = model.shape.context;
  typename Machine::Work work(executor, model, 1);
  std::vector<std::uint8_t> text(prompt.begin(), prompt.end());
  for (int i = 0; i < count; ++i) {
    text.push_back(0);  // the next byte is not known
    typename Machine::Windows windows(executor, std::span(text).last(context + 1));
    windows.put_in({0});
    work.load(windows, 0);
    forward(work, optimizer);
    const auto last = work.logits().last(vocabulary);
    std::vector<float> odds(last.begin(), last.end());
    const float largest = *std::max_element(odds.begin(), odds.end());
    float total = 0;
    for (float& each : odds) total += each = std::exp((each - largest) / temperature);
    float left = (1 + example::uniform(seed, 0, static_cast<std::uint64_t>(i))) / 2 * total;
    int drawn = 0;
    while (drawn < vocabulary - 1 && left >= odds[drawn]) left -= odds[drawn++];
    text.back() = static_cast<std::uint8_t>(drawn);
  }
  return {text.end() - count, text.end()};
}

inline tessera::Options library_options(const Options& options, tessera::Timeline* timeline = nullptr) {
  return {.micro_batches = options.passes(),
          .clip_norm = 1,
          .bucket_bytes = options.bucket_bytes,
          .prefetch = options.prefetch,
          .seed = static_cast<std::uint64_t>(options.seed),
          .timeline = timeline};
}

/// The run of one rank. Comm: a Recording. All ranks get the outcome.
template <class Machine, class Rule, class Stage, class Precision, class Comm>
Outcome train(Comm& comm, const Options& options, const Text& text, tessera::Timeline* timeline) {
  const Model model(options.shape);
  const int rank = comm.rank(), ranks = comm.size();
  const int context = options.shape.context;
  const int micro_batch = options.micro_batch();
  const auto seed = static_cast<std::uint64_t>(options.seed);
  const std::int64_t steps_an_epoch = training_windows(text, context) / options.batch;
  const std::int64_t steps = options.steps > 0 ? options.steps : options.epochs * steps_an_epoch;
  const tessera::CosineSchedule rate{
      .peak = options.lr, .warmup_steps = std::min<std::int64_t>(100, steps / 10), .steps = steps};

  tessera::Sharded<Rule, Stage, Precision, Comm> optimizer(comm, model.layout, {}, Rule{.lr = options.lr},
                                                           library_options(options, timeline));
  optimizer.initialize([&](tessera::Tensor t, std::int64_t i) { return model.initial(seed, t, i); });

  example::Ledger ledger(comm, options, model.layout, steps, static_cast<double>(context) * options.batch, "tokens");
  const auto score = [&] {
    return evaluate<Machine>(comm, ledger, optimizer, model, text.held_out(), held_out_windows(text, context));
  };
  Outcome outcome;
  outcome.loss_before = score().loss();
  typename Machine::Windows windows(comm.executor(), text.training());
  typename Machine::Work work(comm.executor(), model, micro_batch);
  for (std::int64_t step = 0; step < steps; ++step) {
    const std::int64_t in_epoch = step % steps_an_epoch;
    if (in_epoch == 0)
      windows.put_in(windows_of_epoch(text, context, seed, static_cast<std::uint64_t>(step / steps_an_epoch) + 1));
    optimizer.rule().lr = rate(step + 1);

    ledger.begin_step(step);
    optimizer.begin_step(options.step_micro_batches());
    for (int k = 0; k < options.passes(); ++k) {
      if (!optimizer.has_micro_batch()) {
        idle_pass(model, optimizer);
        continue;
      }
      const int j = k * ranks + rank;  // index of the micro-batch in the step
      work.load(windows, in_epoch * options.batch + std::int64_t{j} * micro_batch);
      forward(work, optimizer);
      work.loss(optimizer.loss_scale_pointer(), ledger.loss(step, j));
      auto pass = optimizer.backward();
      backward(work, optimizer, pass);
    }
    ledger.end_step(step, optimizer.step());
  }
  outcome.result = ledger.end(optimizer);
  const Scores after = score();
  outcome.result.final_loss = after.loss();
  outcome.result.accuracy = after.accuracy(context);
  outcome.prompt.assign(text.held_out().begin(), text.held_out().begin() + context);
  outcome.sample = sample<Machine>(comm.executor(), optimizer, model, outcome.prompt, 300, seed);
  return outcome;
}

/// Throws example::WrongOption if the stage's plan exceeds --limit-memory, and names a stage that would fit.
template <class Rule, class Precision, class Comm>
void require_fit(const Options& options) {
  if (options.limit_memory == 0) return;
  const Model model(options.shape);
  const auto bytes = [&](int stage) {
    const auto planned = [&]<class Stage, class P>() {
      return tessera::Sharded<Rule, Stage, P, Comm>::plan(model.layout, options.ranks, library_options(options))
          .bytes();
    };
    return static_cast<std::uint64_t>(example::with_stage<Precision>(stage, planned));
  };
  const auto says = [](int stage, std::uint64_t b) {
    return "stage " + std::to_string(stage) + " needs " + std::to_string(b) + " bytes a rank";
  };
  const std::uint64_t needed = bytes(options.stage);
  if (needed <= options.limit_memory) return;
  std::string why = says(options.stage, needed) + ", more than --limit-memory " + std::to_string(options.limit_memory);
  std::string fits;
  for (int stage = 0; stage < 4; ++stage)
    if (const std::uint64_t b = bytes(stage); b <= options.limit_memory)
      fits += (fits.empty() ? ": what fits: " : "; ") + says(stage, b);
  throw example::WrongOption(why + (fits.empty() ? ", and no stage fits: try more ranks" : fits));
}

}  // namespace transformer
