// The training loop, written once: the stage, the rule and the precision are template arguments, and nothing else
// changes.
#pragma once

#include <algorithm>
#include <cmath>
#include <numeric>
#include <optional>
#include <span>
#include <vector>

#include <tessera/tessera.hpp>
#include <tessera/timeline/trace_events.hpp>

#include "common/ledger.hpp"
#include "common/policies.hpp"
#include "mlp/model.hpp"

namespace mlp {

using Comm = tessera::Recording<tessera::Local>;

template <class Optimizer>
double accuracy(Optimizer& optimizer, const Model& model, const Digits& digits) {
  std::vector<int> all(digits.size());
  std::iota(all.begin(), all.end(), 0);
  Work work(model, digits.size());
  work.load(digits, all);
  for (const tessera::Unit u : model.layout.forward()) work.forward(u, optimizer.gather(u));
  return static_cast<double>(work.correct()) / digits.size();
}

template <class Rule, class Stage, class Precision>
example::Result train(const example::Options& options, const Digits& training, const Digits& held_out) {
  const Model model;
  const int micro_batch = options.micro_batch();
  const auto seed = static_cast<std::uint64_t>(options.seed);
  const std::int64_t steps_an_epoch = training.size() / options.batch;
  const std::int64_t steps = options.steps > 0 ? options.steps : options.epochs * steps_an_epoch;

  example::Ledger ledger(options, model.layout, steps, options.batch, "samples");
  std::optional<tessera::Timeline> timeline;
  if (!options.timeline.empty()) timeline.emplace();
  tessera::run_ranks(options.ranks, [&](tessera::Local& local) {
    Comm comm(local);
    tessera::Sharded<Rule, Stage, Precision, Comm> optimizer(
        comm, model.layout, {}, Rule{.lr = options.lr},
        {.micro_batches = options.micro_batches, .timeline = timeline ? &*timeline : nullptr});
    optimizer.initialize([&](tessera::Tensor t, std::int64_t i) { return model.initial(seed, t, i); });

    const int rank = comm.rank();
    Work work(model, micro_batch);
    std::vector<int> order;
    for (std::int64_t step = 0; step < steps; ++step) {
      const std::int64_t in_epoch = step % steps_an_epoch;
      if (in_epoch == 0) {
        const std::int64_t epoch = step / steps_an_epoch;
        order = example::shuffled(training.size(), seed, static_cast<std::uint64_t>(epoch) + 1);
        optimizer.rule().lr =
            std::ldexp(options.lr, -static_cast<int>(std::min<std::int64_t>(epoch, 60)));  // halved each epoch
      }
      const std::span<const int> batch = std::span(order).subspan(in_epoch * options.batch, options.batch);

      ledger.begin_step(comm, step);
      for (int k = 0; k < options.micro_batches; ++k) {
        const int j = k * options.ranks + rank;  // micro-batch of the step
        work.load(training, batch.subspan(std::size_t(j) * micro_batch, micro_batch));
        for (const tessera::Unit u : model.layout.forward()) {
          const auto w = optimizer.gather(u);
          work.forward(u, w);
        }
        ledger.loss(step, j) = work.loss(optimizer.loss_scale());
        auto pass = optimizer.backward();
        for (const tessera::Unit u : model.layout.backward()) {
          const auto w = optimizer.gather(u);
          work.backward(u, w, pass.gradients(u));
          pass.ready(u);
        }
      }
      ledger.end_step(comm, step, optimizer.step());
    }
    ledger.end(rank, optimizer);
    const double reached = accuracy(optimizer, model, held_out);
    if (rank == 0) ledger.result.accuracy = reached;
  });
  if (timeline) tessera::write_trace_events(*timeline, options.timeline);
  return ledger.result;
}

template <class Rule>
example::Result train(const example::Options& options, const Digits& training, const Digits& held_out) {
  return example::with_policies(options, [&]<class Stage, class Precision>() {
    return train<Rule, Stage, Precision>(options, training, held_out);
  });
}

// Each in a file of its own, compiled beside the others.
example::Result train_sgd(const example::Options& options, const Digits& training, const Digits& held_out);
example::Result train_adam(const example::Options& options, const Digits& training, const Digits& held_out);
example::Result train_adamw(const example::Options& options, const Digits& training, const Digits& held_out);

}  // namespace mlp
