// The training loop, written once: only the template arguments differ by stage, rule, precision and machine.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <numeric>
#include <vector>

#include <tessera/sharded.hpp>

#include "common/ledger.hpp"
#include "common/random.hpp"
#include "mlp/model.hpp"

namespace mlp {

/// The machine of a model; mlp/work.hpp has the host's:
///   Samples   digits in memory that the model reads: put_in(order)
///   Work      a rank's activations: load(samples, first), forward(unit, weights), loss(scale, to), with both arguments
///             in executor memory, backward(unit, weights, gradients), and correct(), the number of correct predictions
template <class Samples_, class Work_>
struct Machine {
  using Samples = Samples_;
  using Work = Work_;
};

template <class Machine, class Executor, class Optimizer>
double accuracy(const Executor& executor, Optimizer& optimizer, const Model& model, const Digits& digits) {
  std::vector<int> all(digits.size());
  std::iota(all.begin(), all.end(), 0);
  typename Machine::Samples samples(executor, digits);
  samples.put_in(all);
  typename Machine::Work work(executor, model, digits.size());
  work.load(samples, 0);
  for (const tessera::Unit u : model.layout.forward()) work.forward(u, optimizer.gather(u));
  return static_cast<double>(work.correct()) / digits.size();
}

/// The run of one rank. Comm: a Recording. All ranks get the result.
template <class Machine, class Rule, class Stage, class Precision, class Comm>
example::Result train(Comm& comm, const example::Options& options, const Split& digits, tessera::Timeline* timeline) {
  const Model model;
  const int rank = comm.rank(), ranks = comm.size();
  const int micro_batch = options.micro_batch();
  const auto seed = static_cast<std::uint64_t>(options.seed);
  const std::int64_t steps_an_epoch = digits.training.size() / options.batch;
  const std::int64_t steps = options.steps > 0 ? options.steps : options.epochs * steps_an_epoch;

  tessera::Sharded<Rule, Stage, Precision, Comm> optimizer(
      comm, model.layout, {}, Rule{.lr = options.lr}, {.micro_batches = options.passes(), .timeline = timeline});
  optimizer.initialize([&](tessera::Tensor t, std::int64_t i) { return model.initial(seed, t, i); });

  example::Ledger ledger(comm, options, model.layout, steps, options.batch, "samples");
  typename Machine::Samples samples(comm.executor(), digits.training);
  typename Machine::Work work(comm.executor(), model, micro_batch);
  for (std::int64_t step = 0; step < steps; ++step) {
    const std::int64_t in_epoch = step % steps_an_epoch;
    if (in_epoch == 0) {
      const std::int64_t epoch = step / steps_an_epoch;
      samples.put_in(example::shuffled(digits.training.size(), seed, static_cast<std::uint64_t>(epoch) + 1));
      optimizer.rule().lr =
          std::ldexp(options.lr, -static_cast<int>(std::min<std::int64_t>(epoch, 60)));  // halved each epoch
    }

    ledger.begin_step(step);
    optimizer.begin_step(options.step_micro_batches());
    for (int k = 0; k < options.passes(); ++k) {
      const int j = k * ranks + rank;  // index of the micro-batch in the step
      const bool has_one = optimizer.has_micro_batch();  // without one, a rank makes the same gathers and ready calls
      if (has_one) work.load(samples, in_epoch * options.batch + std::int64_t{j} * micro_batch);
      for (const tessera::Unit u : model.layout.forward()) {
        const auto w = optimizer.gather(u);
        if (has_one) work.forward(u, w);
      }
      if (has_one) work.loss(optimizer.loss_scale_pointer(), ledger.loss(step, j));
      auto pass = optimizer.backward();
      for (const tessera::Unit u : model.layout.backward()) {
        const auto w = optimizer.gather(u);
        if (has_one) work.backward(u, w, pass.gradients(u));
        pass.ready(u);
      }
    }
    ledger.end_step(step, optimizer.step());
  }
  example::Result result = ledger.end(optimizer);
  result.accuracy = accuracy<Machine>(comm.executor(), optimizer, model, digits.held_out);
  return result;
}

}  // namespace mlp
