// The training loop, written once: the stage, the rule and the precision are template arguments, and nothing else
// changes.
#pragma once

#include <algorithm>
#include <cmath>
#include <numeric>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include <tessera/tessera.hpp>
#include <tessera/timeline/trace_events.hpp>

#include "common/ledger.hpp"
#include "common/policies.hpp"
#include "transformer/model.hpp"
#include "transformer/options.hpp"
#include "transformer/text.hpp"

namespace transformer {

using Comm = tessera::Recording<tessera::Local>;

struct Outcome {
  example::Result result;
  double loss_before = 0;  ///< held-out, before the first step
  std::string prompt, sample;
};

/// What each window of a text costs and how many of its bytes are guessed right: a number of its own for each, so that
/// the sum does not depend on which rank has which.
struct Scores {
  std::vector<double> losses;
  std::vector<int> right;

  explicit Scores(std::int64_t windows) : losses(windows), right(windows) {}
  double loss() const { return std::reduce(losses.begin(), losses.end()) / static_cast<double>(losses.size()); }
  double accuracy(int context) const {
    return std::accumulate(right.begin(), right.end(), 0.0) / (static_cast<double>(right.size()) * context);
  }
};

/// Scores the text's windows, shared out among the ranks: all of them make the same number of passes.
template <class Optimizer>
void evaluate(Optimizer& optimizer, const Model& model, std::span<const std::uint8_t> text, int rank, int ranks,
              Scores& scores) {
  constexpr int sequences = 8;
  const int context = model.shape.context;
  const auto windows = static_cast<std::int64_t>(scores.losses.size());
  Work<float> work(model, sequences);
  for (std::int64_t round = 0; round * ranks * sequences < windows; ++round) {
    const std::int64_t first = (round * ranks + rank) * sequences;
    std::int64_t starts[sequences];
    for (int s = 0; s < sequences; ++s) starts[s] = std::min(first + s, windows - 1) * context;
    work.load(text, starts);
    forward(work, optimizer);
    for (int s = 0; s < sequences && first + s < windows; ++s) {
      double loss = 0;
      int right = 0;
      for (int r = s * context; r < (s + 1) * context; ++r) {
        const float* const logits = work.logits(r);
        loss += cross_entropy(logits, vocabulary, work.target(r));
        right += std::max_element(logits, logits + vocabulary) - logits == work.target(r);
      }
      scores.losses[first + s] = loss / context;
      scores.right[first + s] = right;
    }
  }
}

/// `count` bytes that follow the prompt of context bytes, drawn from the model at a temperature. Each rank draws the
/// same.
template <class Optimizer>
std::string sample(Optimizer& optimizer, const Model& model, const std::string& prompt, int count, std::uint64_t seed) {
  constexpr float temperature = 0.7f;
  const int context = model.shape.context;
  const std::int64_t start = 0;
  Work<float> work(model, 1);
  std::vector<std::uint8_t> text(prompt.begin(), prompt.end());
  for (int i = 0; i < count; ++i) {
    std::vector<std::uint8_t> window(text.end() - context, text.end());
    window.push_back(0);  // what comes next is not known
    work.load(window, {&start, 1});
    forward(work, optimizer);
    float* const logits = work.logits(context - 1);
    const float largest = *std::max_element(logits, logits + vocabulary);
    float total = 0;
    for (int c = 0; c < vocabulary; ++c) total += logits[c] = std::exp((logits[c] - largest) / temperature);
    float left = (1 + example::uniform(seed, 0, static_cast<std::uint64_t>(i))) / 2 * total;
    int drawn = 0;
    while (drawn < vocabulary - 1 && left >= logits[drawn]) left -= logits[drawn++];
    text.push_back(static_cast<std::uint8_t>(drawn));
  }
  return {text.end() - count, text.end()};
}

inline tessera::Options library_options(const Options& options, tessera::Timeline* timeline = nullptr) {
  return {.micro_batches = options.micro_batches,
          .clip_norm = 1,
          .bucket_bytes = options.bucket_bytes,
          .prefetch = options.prefetch,
          .seed = static_cast<std::uint64_t>(options.seed),
          .timeline = timeline};
}

template <class Rule, class Stage, class Precision>
Outcome train(const Options& options, const Text& text) {
  const Model model(options.shape);
  const int context = options.shape.context;
  const int micro_batch = options.micro_batch();
  const auto seed = static_cast<std::uint64_t>(options.seed);
  const std::int64_t steps_an_epoch = training_windows(text, context) / options.batch;
  const std::int64_t steps = options.steps > 0 ? options.steps : options.epochs * steps_an_epoch;
  const tessera::CosineSchedule rate{
      .peak = options.lr, .warmup_steps = std::min<std::int64_t>(100, steps / 10), .steps = steps};

  example::Ledger ledger(options, model.layout, steps, static_cast<double>(context) * options.batch, "tokens");
  Scores before(held_out_windows(text, context)), after = before;
  Outcome outcome;
  outcome.prompt.assign(text.held_out().begin(), text.held_out().begin() + context);

  std::optional<tessera::Timeline> timeline;
  if (!options.timeline.empty()) timeline.emplace();
  tessera::run_ranks(options.ranks, [&](tessera::Local& local) {
    Comm comm(local);
    tessera::Sharded<Rule, Stage, Precision, Comm> optimizer(comm, model.layout, {}, Rule{.lr = options.lr},
                                                             library_options(options, timeline ? &*timeline : nullptr));
    optimizer.initialize([&](tessera::Tensor t, std::int64_t i) { return model.initial(seed, t, i); });

    const int rank = comm.rank();
    evaluate(optimizer, model, text.held_out(), rank, options.ranks, before);
    Work<float> work(model, micro_batch);
    std::vector<std::int64_t> windows;
    for (std::int64_t step = 0; step < steps; ++step) {
      const std::int64_t in_epoch = step % steps_an_epoch;
      if (in_epoch == 0)
        windows = windows_of_epoch(text, context, seed, static_cast<std::uint64_t>(step / steps_an_epoch) + 1);
      const std::span<const std::int64_t> batch = std::span(windows).subspan(in_epoch * options.batch, options.batch);
      optimizer.rule().lr = rate(step + 1);

      ledger.begin_step(comm, step);
      for (int k = 0; k < options.micro_batches; ++k) {
        const int j = k * options.ranks + rank;  // micro-batch of the step
        work.load(text.training(), batch.subspan(std::size_t(j) * micro_batch, micro_batch));
        forward(work, optimizer);
        ledger.loss(step, j) = work.loss(optimizer.loss_scale());
        auto pass = optimizer.backward();
        backward(work, optimizer, pass);
      }
      ledger.end_step(comm, step, optimizer.step());
    }
    ledger.end(rank, optimizer);
    evaluate(optimizer, model, text.held_out(), rank, options.ranks, after);
    std::string drawn = sample(optimizer, model, outcome.prompt, 300, seed);
    if (rank == 0) outcome.sample = std::move(drawn);
  });
  if (timeline) tessera::write_trace_events(*timeline, options.timeline);
  outcome.result = std::move(ledger.result);
  outcome.loss_before = before.loss();
  outcome.result.final_loss = after.loss();
  outcome.result.accuracy = after.accuracy(context);
  return outcome;
}

/// Throws example::WrongOption where the stage's plan exceeds --limit-memory, and says which stage would fit.
template <class Rule, class Precision>
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

template <class Rule>
Outcome train(const Options& options, const Text& text) {
  return example::with_policies(options, [&]<class Stage, class Precision>() {
    require_fit<Rule, Precision>(options);
    return train<Rule, Stage, Precision>(options, text);
  });
}

// Each in a file of its own, compiled beside the others.
Outcome train_sgd(const Options& options, const Text& text);
Outcome train_adam(const Options& options, const Text& text);
Outcome train_adamw(const Options& options, const Text& text);

}  // namespace transformer
