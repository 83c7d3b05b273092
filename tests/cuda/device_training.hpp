// A training run whose forward and backward are loops of the optimizer's executor. It is the same code on a device and
// on the host, so that the results can be compared.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include <tessera/tessera.hpp>

#include "training.hpp"

namespace tessera::testing {

TESSERA_HD TESSERA_ALWAYS_INLINE std::uint64_t mixed(std::uint64_t x, index_t word) noexcept {
  x += static_cast<std::uint64_t>(word) + 0x9e3779b97f4a7c15u;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
  return x ^ (x >> 31);
}

/// A number in [-1, 1), with 24 bits, on host and device.
TESSERA_HD TESSERA_ALWAYS_INLINE float made_up_number(index_t step, index_t leaf, index_t tensor, index_t i) {
  const std::uint64_t x = mixed(mixed(mixed(mixed(0, step), leaf), tensor), i);
  return static_cast<float>(static_cast<std::int64_t>(x >> 40)) / 8388608.0f - 1.0f;
}

/// Forward: records the weights as it reads them.
template <class Parameter>
struct See {
  const Parameter* weight;
  float* seen;
  TESSERA_HD void operator()(index_t i) const noexcept { seen[i] = seen[i] * 0.5f + static_cast<float>(weight[i]); }
};

/// Backward: adds a gradient that depends on the weight as it reads it, and on numbers in executor memory.
template <class Parameter, class Gradient>
struct AddGradient {
  const Parameter* weight;
  Gradient* gradient;
  const index_t* step;
  const float* loss_scale;
  index_t leaf;
  index_t tensor;
  index_t broken_step;  // the step in which one element of leaf 1 is infinite
  TESSERA_HD TESSERA_ALWAYS_INLINE void operator()(index_t i) const noexcept {
    TESSERA_ROUND_EACH_OPERATION
    const float g = made_up_number(*step, leaf, tensor, i) - 0.25f * static_cast<float>(weight[i]);
    const bool broken = *step == broken_step && leaf == 1 && tensor == 1 && i == 3;
    const float infinity = bits_as<float>(0x7f800000u);
    const float scaled = broken ? infinity : g * *loss_scale;
    gradient[i] = Gradient(static_cast<float>(gradient[i]) + scaled);
  }
};

struct Increment {
  index_t* number;
  TESSERA_HD void operator()() const noexcept { ++*number; }
};

/// The result of a run, the same on every rank.
struct Trained {
  std::vector<float> parameters;
  std::vector<float> seen;  // by the forwards of this rank: the same for all stages of one world
  std::vector<double> norms, scales;
  std::vector<bool> applied;

  bool same_model(const Trained& other) const {
    return parameters == other.parameters && norms == other.norms && scales == other.scales && applied == other.applied;
  }
  friend bool operator==(const Trained&, const Trained&) = default;
};

/// The model and the training loop of one rank.
template <class Optimizer>
class Training {
 public:
  using Executor = typename Optimizer::Executor;
  using Parameter = typename Optimizer::Parameter;
  using Gradient = typename Optimizer::Gradient;

  Training(Optimizer& optimizer, Executor executor, int rank, int world, int passes, index_t broken_step)
      : optimizer_(optimizer),
        executor_(std::move(executor)),
        rank_(rank),
        world_(world),
        passes_(passes),
        broken_step_(broken_step),
        seen_(executor_.template allocate<float>(optimizer.layout().parameters())),
        step_(executor_.template allocate<index_t>(1)) {}

  /// From now on an executor with another stream, which is delayed, computes the gradients. Not at stage 3.
  void make_gradients_on(Executor side, void (*late)(Executor&)) {
    side_.emplace(std::move(side));
    late_ = late;
  }

  /// From now on the executor's work for each unit is delayed, and so is the step.
  void compute_late(void (*late)(Executor&)) { late_compute_ = late; }

  /// Counts steps that were made elsewhere.
  void skip_steps(index_t steps) {
    for (index_t i = 0; i < steps; ++i) executor_.once(Increment{step_.span().data()});
  }

  /// A complete step. None of it waits for the executor.
  auto step() {
    for (int pass = 0; pass < passes_; ++pass) run_pass(index_t{pass} * world_ + rank_);
    if constexpr (has_streams)
      if (side_) executor_.join(side_->stream());  // which reads the step number
    executor_.once(Increment{step_.span().data()});
    be_late();
    return optimizer_.step();
  }

  void run_pass(index_t leaf) {
    const Layout& layout = optimizer_.layout();
    for (const Unit u : layout.forward()) {
      const auto weights = optimizer_.gather(u);
      be_late();
      for (const Tensor t : layout.tensors(u)) {
        const auto weight = weights[t];
        executor_.for_each(std::ssize(weight), See<Parameter>{weight.data(), seen_.span().data() + first(t)});
      }
    }
    auto pass = optimizer_.backward();
    for (const Unit u : layout.backward()) {
      const auto weights = optimizer_.gather(u);
      const auto gradients = pass.gradients(u);
      Executor& producer = side_ ? *side_ : executor_;
      be_late();
      fork();
      for (const Tensor t : layout.tensors(u)) {
        if (layout.frozen(t)) continue;
        const auto weight = weights[t];
        producer.for_each(std::ssize(weight), AddGradient<Parameter, Gradient>{
                                                  weight.data(), gradients[t].data(), step_.span().data(),
                                                  optimizer_.loss_scale_pointer(), leaf, t.index, broken_step_});
      }
      ready(pass, u);
    }
  }

  /// Blocks.
  template <class Report>
  void note(const Report& report) {
    trained_.norms.push_back(report.applied() ? report.gradient_norm() : -1);  // NaN would equal nothing
    trained_.scales.push_back(report.loss_scale());
    trained_.applied.push_back(report.applied());
  }

  /// Blocks.
  Trained end() {
    trained_.parameters.clear();
    for (const Unit u : optimizer_.layout().forward()) {
      const auto weights = optimizer_.gather(u);
      for (const Tensor t : optimizer_.layout().tensors(u)) {
        std::vector<Parameter> host(weights[t].size());
        executor_.download(weights[t], host.data());
        for (const Parameter value : host) trained_.parameters.push_back(static_cast<float>(value));
      }
    }
    trained_.seen.resize(static_cast<std::size_t>(seen_.size()));
    executor_.download(std::span<const float>(seen_.span()), trained_.seen.data());
    return trained_;
  }

 private:
  static constexpr bool has_streams = StreamExecutor<Executor>;

  void fork() {
    if constexpr (has_streams)
      if (side_) {
        executor_.fork(side_->stream());
        late_(*side_);
      }
  }

  void be_late() {
    if (late_compute_) late_compute_(executor_);
  }

  template <class Pass>
  void ready(Pass& pass, Unit u) {
    if constexpr (has_streams)
      if (side_) return pass.ready(u, side_->stream());
    pass.ready(u);
  }

  index_t first(Tensor tensor) const {
    index_t before = 0;
    for (const Tensor t : optimizer_.layout().tensors()) {
      if (t.index == tensor.index) break;
      before += optimizer_.layout().elements(t);
    }
    return before;
  }

  Optimizer& optimizer_;
  Executor executor_;
  int rank_;
  int world_;
  int passes_;
  index_t broken_step_;
  typename Executor::template Buffer<float> seen_;
  typename Executor::template Buffer<index_t> step_;
  std::optional<Executor> side_;
  void (*late_)(Executor&) = nullptr;
  void (*late_compute_)(Executor&) = nullptr;
  Trained trained_;
};

/// `steps` steps of `micro_batches` micro-batches over all ranks.
template <class Rule, class Stage, class Precision, class Comm, class Prepare>
Trained train_on(const Comm& comm, const Rule& rule, int steps, int micro_batches, index_t broken_step,
                 Prepare prepare) {
  Sharded<Rule, Stage, Precision, Comm> optimizer(comm, ragged_layout(), {}, std::vector<Rule>(2, rule),
                                                  {.micro_batches = micro_batches / comm.size(),
                                                   .clip_norm = 2,
                                                   .bucket_bytes = 1000,
                                                   .group_size = comm.size() % 2 == 0 ? comm.size() / 2 : 0,
                                                   .loss_scale = {.initial = 256, .hysteresis = 1}});
  optimizer.initialize(made_up_weight);
  Training training(optimizer, comm.executor(), comm.rank(), comm.size(), micro_batches / comm.size(), broken_step);
  prepare(training);
  for (int s = 0; s < steps; ++s) training.note(training.step());
  CHECK(optimizer.bytes() == optimizer.plan().bytes());
  return training.end();
}

template <class Rule, class Stage, class Precision, class Comm>
Trained train_on(const Comm& comm, const Rule& rule, int steps, int micro_batches, index_t broken_step = -1) {
  return train_on<Rule, Stage, Precision>(comm, rule, steps, micro_batches, broken_step, [](auto&) {});
}

}  // namespace tessera::testing
