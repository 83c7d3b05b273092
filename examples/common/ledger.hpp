// Records what the ranks of a run report while they train: losses, bytes, elements sent, time. It works for losses in
// device memory and for ranks that are processes.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include <tessera/comm/communicator.hpp>
#include <tessera/core/clock.hpp>
#include <tessera/core/digest.hpp>
#include <tessera/engine/step/report.hpp>
#include <tessera/layout/layout.hpp>
#include <tessera/layout/options.hpp>

#include "common/divergence.hpp"
#include "common/options.hpp"
#include "common/progress.hpp"
#include "common/result.hpp"

namespace example {

/// FNV-1a over every tensor's bytes, in layout order: 16 hexadecimal digits. Called by all ranks.
template <class Executor, class Optimizer>
std::string fingerprint(Executor& executor, Optimizer& optimizer) {
  tessera::core::Digest digest;
  std::vector<typename Optimizer::Parameter> values;
  for (const tessera::Unit u : optimizer.layout().forward()) {
    const auto w = optimizer.gather(u);
    for (const tessera::Tensor t : optimizer.layout().tensors(u)) {
      values.resize(w[t].size());
      executor.download(w[t], values.data());
      digest.add(std::as_bytes(std::span(values)));
    }
  }
  return hexadecimal(digest.value());
}

/// One per rank. All ranks call every method, and all get the result.
template <class Comm>  // a Recording
class Ledger {
 public:
  /// per_step: how many units of `rate_of` ("samples", "tokens") a step has.
  Ledger(Comm& comm, const Options& options, const tessera::Layout& layout, std::int64_t steps, double per_step,
         const char* counted)
      : comm_(comm),
        executor_(comm.executor()),
        queue_(comm_.queue(tessera::Options{}.usable_timeout())),
        losses_(executor_.template allocate<double>(steps_at_a_time * options.step_micro_batches())),
        micro_batches_(options.step_micro_batches()),
        steps_(steps),
        per_step_(per_step),
        counted_(counted) {
    result_.parameters = layout.parameters();
  }

  void begin_step(std::int64_t step) {
    if (step == recorded_step()) comm_.clear();
    if (step != 0) return;
    began_ = Clock::now();
    if (comm_.rank() == 0) progress_.emplace(steps_, per_step_, counted_);
  }

  /// The address of the loss of the step's micro-batch j, for the rank that has it, in executor memory.
  double* loss(std::int64_t step, int j) { return losses_.span().data() + step % steps_at_a_time * micro_batches_ + j; }

  template <class Report>
  void end_step(std::int64_t step, const Report& report) {
    if (step == recorded_step())
      sent_ = comm_.sent(tessera::Collective::reduce_scatter, tessera::Collective::all_gather);
    reports_.push_back(report);
    if (std::ssize(reports_) == steps_at_a_time || step + 1 == steps_) read(step);
  }

  /// Call it after the last step.
  template <class Optimizer>
  Result end(Optimizer& optimizer) {
    result_.seconds_per_step =
        std::chrono::duration<double>(Clock::now() - began_).count() / static_cast<double>(steps_);
    result_.bytes_planned = of_all_ranks(optimizer.plan().bytes());
    result_.bytes_counted = of_all_ranks(optimizer.peak_bytes());
    result_.elements_sent_per_step = of_all_ranks(sent_);
    result_.parameters_fingerprint = fingerprint(executor_, optimizer);
    result_.final_loss = result_.losses.back();
    divergence_.look_at_weights(of_any_rank(optimizer.finish().first_non_finite_weight(), optimizer.layout()));
    result_.diverged = divergence_.text();
    return std::move(result_);
  }

  /// Replaces each value, in host memory, by its sum over all ranks.
  template <class T>
  void add_up(std::span<T> values) {
    auto sums = executor_.template allocate<T>(std::ssize(values));
    executor_.upload(sums.span(), values.data());
    executor_.wait(queue_.post(tessera::AllReduce(sums.span(), {"numbers of all ranks"}), executor_.record()));
    executor_.download(std::span<const T>(sums.span()), values.data());
  }

 private:
  using Clock = std::chrono::steady_clock;
  using Executor = typename Comm::Executor;

  // If the host runs ahead of a device, it reads the results of several steps at once and waits only then. At most half
  // of the reports for which a CUDA executor has slots.
  static constexpr std::int64_t steps_at_a_time = Executor::synchronous ? 1 : 32;

  // The second step, since all gathers in it are its own.
  std::int64_t recorded_step() const { return std::min<std::int64_t>(1, steps_ - 1); }

  // Reads the steps up to `last` that were not read yet. Each rank has zeros for the losses of others, so sums are
  // exact.
  void read(std::int64_t last) {
    std::vector<double> losses(losses_.span().size());
    executor_.wait(queue_.post(tessera::AllReduce(losses_.span(), {"losses up to step", last}), executor_.record()));
    executor_.download(std::span<const double>(losses_.span()), losses.data());
    for (const auto& report : reports_) {
      const std::int64_t step = std::ssize(result_.losses);
      double loss = 0;
      for (std::int64_t j = 0; j < micro_batches_; ++j) loss += losses[step % steps_at_a_time * micro_batches_ + j];
      result_.losses.push_back(loss / static_cast<double>(micro_batches_));
      result_.skipped_steps += !report.applied();
      divergence_.look(step + 1, result_.losses.back(), report);
    }
    reports_.clear();
    std::fill(losses.begin(), losses.end(), 0.0);
    executor_.upload(losses_.span(), losses.data());
    if (progress_) progress_->show(last + 1, result_.losses.back());
  }

  std::vector<std::int64_t> of_all_ranks(std::int64_t mine) {
    std::vector<std::int64_t> all(comm_.size());
    all[comm_.rank()] = mine;
    add_up(std::span(all));
    return all;
  }

  // The first of the tensors that ranks name; a rank names one or none.
  std::string of_any_rank(const std::string& mine, const tessera::Layout& layout) {
    std::int64_t number = 0, place = 0;  // number from 1; 0: none
    std::vector<std::string> names;
    for (const tessera::Tensor t : layout.tensors()) {
      names.push_back(layout.name(t));
      ++number;
      if (place == 0 && names.back() == mine) place = number;
    }
    for (const std::int64_t theirs : of_all_ranks(place))
      if (theirs > 0 && (place == 0 || theirs < place)) place = theirs;
    return place > 0 ? names[place - 1] : mine;
  }

  Comm& comm_;
  Executor executor_;
  typename Comm::Queue queue_;
  typename Executor::template Buffer<double> losses_;  // one per step and micro-batch
  std::int64_t micro_batches_;                         // per step
  std::int64_t steps_;
  double per_step_;
  const char* counted_;
  Result result_;
  Divergence divergence_;
  std::vector<tessera::StepReport<Executor>> reports_;
  tessera::index_t sent_ = 0;
  std::optional<Progress> progress_;
  Clock::time_point began_{};
};

}  // namespace example
