// What the ranks of one run write down as they train: losses, bytes, what was sent, how long it took. Rank 0 adds up.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include <tessera/comm/communicator.hpp>
#include <tessera/core/digest.hpp>
#include <tessera/engine/report.hpp>
#include <tessera/layout/layout.hpp>

#include "common/options.hpp"
#include "common/progress.hpp"
#include "common/result.hpp"

namespace example {

/// FNV-1a over every tensor's bytes, in layout order: 16 hexadecimal digits. Called by all ranks.
template <class Optimizer>
std::string fingerprint(Optimizer& optimizer) {
  tessera::Digest digest;
  for (const tessera::Unit u : optimizer.layout().forward()) {
    const auto w = optimizer.gather(u);
    for (const tessera::Tensor t : optimizer.layout().tensors(u)) digest.add(std::as_bytes(w[t]));
  }
  return hexadecimal(digest.value());
}

/// One for all ranks; every rank calls every method.
class Ledger {
 public:
  /// A step has `per_step` of what is counted: "samples", "tokens".
  Ledger(const Options& options, const tessera::Layout& layout, std::int64_t steps, double per_step,
         const char* counted)
      : steps_(steps), per_step_(per_step), counted_(counted) {
    result.parameters = layout.parameters();
    result.bytes_planned.resize(options.ranks);
    result.bytes_counted.resize(options.ranks);
    result.elements_sent_per_step.resize(options.ranks);
    for (auto& one : losses_) one.resize(std::size_t(options.ranks) * options.micro_batches);
  }

  /// Comm: a Recording.
  template <class Comm>
  void begin_step(Comm& comm, std::int64_t step) {
    if (step == recorded_step()) comm.clear();
    if (comm.rank() != 0 || step != 0) return;
    progress_.emplace(steps_, per_step_, counted_);
    began_ = Clock::now();
  }

  /// Where the loss of the step's micro-batch j goes, from the rank that has it.
  double& loss(std::int64_t step, int j) { return losses_[step % 2][j]; }

  template <class Comm>
  void end_step(const Comm& comm, std::int64_t step, const tessera::Report& report) {
    if (step == recorded_step())
      result.elements_sent_per_step[comm.rank()] =
          comm.sent(tessera::Collective::reduce_scatter, tessera::Collective::all_gather);
    if (comm.rank() != 0) return;
    double loss = 0;
    for (const double one : losses_[step % 2]) loss += one;
    loss /= static_cast<double>(losses_[step % 2].size());
    result.losses.push_back(loss);
    result.skipped_steps += !report.applied();
    progress_->show(step + 1, loss);
  }

  /// After the last step.
  template <class Optimizer>
  void end(int rank, Optimizer& optimizer) {
    const double seconds = std::chrono::duration<double>(Clock::now() - began_).count();
    result.bytes_planned[rank] = optimizer.plan().bytes();
    result.bytes_counted[rank] = optimizer.peak_bytes();
    const std::string print = fingerprint(optimizer);
    if (rank != 0) return;
    result.parameters_fingerprint = print;
    result.final_loss = result.losses.back();
    result.seconds_per_step = seconds / static_cast<double>(steps_);
  }

  Result result;

 private:
  using Clock = std::chrono::steady_clock;

  // The second step's, whose gathers belong to it alone.
  std::int64_t recorded_step() const { return std::min<std::int64_t>(1, steps_ - 1); }

  std::int64_t steps_;
  double per_step_;
  const char* counted_;
  // A rank may be one step ahead of the one that adds up: two steps' losses, one a micro-batch.
  std::vector<double> losses_[2];
  std::optional<Progress> progress_;
  Clock::time_point began_{};
};

}  // namespace example
