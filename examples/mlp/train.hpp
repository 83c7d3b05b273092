// The training loop, written once: the stage, the rule and the precision are template arguments, and nothing else
// changes.
#pragma once

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <numeric>
#include <optional>
#include <span>
#include <vector>

#include <tessera/tessera.hpp>
#include <tessera/timeline/trace_events.hpp>

#include "common/options.hpp"
#include "common/progress.hpp"
#include "common/report.hpp"
#include "mlp/model.hpp"

namespace mlp {

using Comm = tessera::Recording<tessera::Local>;

/// FNV-1a over every tensor's bytes, in layout order.
template <class Optimizer>
std::uint64_t fingerprint(Optimizer& optimizer) {
  tessera::Digest digest;
  for (const tessera::Unit u : optimizer.layout().forward()) {
    const auto w = optimizer.gather(u);
    for (const tessera::Tensor t : optimizer.layout().tensors(u)) digest.add(std::as_bytes(w[t]));
  }
  return digest.value();
}

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

  example::Result result;
  result.parameters = model.layout.parameters();
  result.bytes_planned.resize(options.ranks);
  result.bytes_counted.resize(options.ranks);
  result.elements_sent_per_step.resize(options.ranks);
  // A rank may be one step ahead of the one that adds up: two steps' losses, one a micro-batch.
  std::vector<double> losses[2];
  for (auto& one : losses) one.resize(std::size_t(options.ranks) * options.micro_batches);

  std::optional<tessera::Timeline> timeline;
  if (!options.timeline.empty()) timeline.emplace();
  tessera::run_ranks(options.ranks, [&](tessera::Local& local) {
    Comm comm(local);
    tessera::Sharded<Rule, Stage, Precision, Comm> optimizer(
        comm, model.layout, {}, Rule{.lr = options.lr},
        {.micro_batches = options.micro_batches, .timeline = timeline ? &*timeline : nullptr});
    optimizer.initialize([&](tessera::Tensor t, std::int64_t i) { return model.initial(seed, t, i); });

    const int rank = comm.rank();
    const bool first = rank == 0;
    Work work(model, micro_batch);
    std::vector<int> order;
    example::Progress progress(steps, options.batch, "samples");
    const auto began = std::chrono::steady_clock::now();
    for (std::int64_t step = 0; step < steps; ++step) {
      const std::int64_t in_epoch = step % steps_an_epoch;
      if (in_epoch == 0) {
        const std::int64_t epoch = step / steps_an_epoch;
        order = example::shuffled(training.size(), seed, static_cast<std::uint64_t>(epoch) + 1);
        optimizer.rule().lr =
            std::ldexp(options.lr, -static_cast<int>(std::min<std::int64_t>(epoch, 60)));  // halved each epoch
      }
      const std::span<const int> batch = std::span(order).subspan(in_epoch * options.batch, options.batch);
      if (step == 1 || steps == 1) comm.clear();

      for (int k = 0; k < options.micro_batches; ++k) {
        const int j = k * options.ranks + rank;  // micro-batch of the step
        work.load(training, batch.subspan(std::size_t(j) * micro_batch, micro_batch));
        for (const tessera::Unit u : model.layout.forward()) {
          const auto w = optimizer.gather(u);
          work.forward(u, w);
        }
        losses[step % 2][j] = work.loss(optimizer.loss_scale());
        auto pass = optimizer.backward();
        for (const tessera::Unit u : model.layout.backward()) {
          const auto w = optimizer.gather(u);
          work.backward(u, w, pass.gradients(u));
          pass.ready(u);
        }
      }
      const auto report = optimizer.step();

      if (step == 1 || steps == 1)
        result.elements_sent_per_step[rank] =
            comm.sent(tessera::Collective::reduce_scatter, tessera::Collective::all_gather);
      if (!first) continue;
      double loss = 0;
      for (const double one : losses[step % 2]) loss += one;
      loss /= static_cast<double>(losses[step % 2].size());
      result.losses.push_back(loss);
      result.skipped_steps += !report.applied();
      progress.show(step + 1, loss);
    }
    const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - began).count();

    result.bytes_planned[rank] = optimizer.plan().bytes();
    result.bytes_counted[rank] = optimizer.bytes();
    const double reached = accuracy(optimizer, model, held_out);
    const std::uint64_t print = fingerprint(optimizer);
    if (!first) return;
    result.accuracy = reached;
    result.parameters_fingerprint = example::hexadecimal(print);
    result.final_loss = result.losses.back();
    result.seconds_per_step = seconds / static_cast<double>(steps);
  });
  if (timeline) tessera::write_trace_events(*timeline, options.timeline);
  return result;
}

/// The four stages differ in one template argument.
template <class Rule, class Precision>
example::Result train(const example::Options& options, const Digits& training, const Digits& held_out) {
  switch (options.stage) {
    case 0: return train<Rule, tessera::Stage0, Precision>(options, training, held_out);
    case 1: return train<Rule, tessera::Stage1, Precision>(options, training, held_out);
    case 2: return train<Rule, tessera::Stage2, Precision>(options, training, held_out);
    default: return train<Rule, tessera::Stage3, Precision>(options, training, held_out);
  }
}

template <class Rule>
example::Result train(const example::Options& options, const Digits& training, const Digits& held_out) {
  if (options.precision == "bf16") return train<Rule, tessera::Bf16>(options, training, held_out);
  if (options.precision == "bf16-remainder") return train<Rule, tessera::Bf16Remainder>(options, training, held_out);
  if (options.precision == "bf16-stochastic") return train<Rule, tessera::Bf16Stochastic>(options, training, held_out);
  if (options.precision == "fp16") return train<Rule, tessera::Fp16>(options, training, held_out);
  return train<Rule, tessera::Fp32>(options, training, held_out);
}

// Each in a file of its own, compiled beside the others.
example::Result train_sgd(const example::Options& options, const Digits& training, const Digits& held_out);
example::Result train_adam(const example::Options& options, const Digits& training, const Digits& held_out);
example::Result train_adamw(const example::Options& options, const Digits& training, const Digits& held_out);

}  // namespace mlp
