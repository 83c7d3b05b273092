#include "libtorch/train.hpp"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <span>
#include <string>
#include <vector>

#include <torch/nn/modules/activation.h>
#include <torch/nn/modules/container/sequential.h>
#include <torch/nn/modules/linear.h>
#include <torch/optim/adamw.h>
#include <torch/utils.h>

#include <tessera/tessera.hpp>

#include "common/divergence.hpp"
#include "common/progress.hpp"
#include "common/random.hpp"
#include "libtorch/sharded_module.hpp"

namespace libtorch {
namespace {

using Comm = tessera::Recording<tessera::Local>;

torch::nn::Sequential make_model() {
  return torch::nn::Sequential({{"hidden", torch::nn::Linear(mlp::pixels, 128)},
                                {"relu", torch::nn::ReLU()},
                                {"output", torch::nn::Linear(128, mlp::classes)}});
}

struct Batch {
  torch::Tensor images, labels;
};

// [alone]
/// A step of one process: the loss.
double step(torch::nn::Sequential& model, torch::optim::AdamW& optimizer, const Batch& batch) {
  optimizer.zero_grad();
  const auto loss = torch::cross_entropy_loss(model->forward(batch.images), batch.labels);
  loss.backward();
  optimizer.step();
  return loss.item<double>();
}
// [end]

// [sharded]
/// One micro-batch of a rank: the loss. With the step's last, optimizer.step() follows.
template <class Module>
double pass(Module& model, const Batch& batch) {
  const auto loss = torch::cross_entropy_loss(model.forward(batch.images), batch.labels);
  model.backward(loss);  // from zero; what is complete is reduced while autograd goes on
  return loss.template item<double>();
}
// [end]

/// Digits as tensors, and the batches of each step: the same for both runs. Copies share the tensors.
class Batches {
 public:
  Batches(const mlp::Digits& digits, const example::Options& options)
      : options_(options),
        steps_an_epoch_(digits.size() / options.batch),
        all_{torch::tensor(digits.images).view({-1, mlp::pixels}),
             torch::tensor(std::vector<std::int64_t>(digits.labels.begin(), digits.labels.end()))} {}

  const Batch& all() const { return all_; }
  std::int64_t steps() const { return options_.steps > 0 ? options_.steps : options_.epochs * steps_an_epoch_; }

  /// Halved each epoch.
  double lr(std::int64_t step) const {
    return std::ldexp(options_.lr, -static_cast<int>(std::min<std::int64_t>(step / steps_an_epoch_, 60)));
  }

  /// Micro-batch j of the step's `count`.
  Batch operator()(std::int64_t step, int j, int count) {
    if (const std::int64_t epoch = step / steps_an_epoch_; epoch_ != epoch) {
      epoch_ = epoch;
      order_ = example::shuffled(static_cast<int>(all_.labels.numel()), static_cast<std::uint64_t>(options_.seed),
                                 static_cast<std::uint64_t>(epoch) + 1);
    }
    const int samples = options_.batch / count;
    const auto first = order_.begin() + (step % steps_an_epoch_) * options_.batch + std::ptrdiff_t{j} * samples;
    const torch::Tensor chosen = torch::tensor(std::vector<std::int64_t>(first, first + samples));
    return {all_.images.index_select(0, chosen), all_.labels.index_select(0, chosen)};
  }

 private:
  example::Options options_;
  std::int64_t steps_an_epoch_;
  Batch all_;
  std::int64_t epoch_ = -1;
  std::vector<int> order_;
};

double share_of(const torch::Tensor& logits, const torch::Tensor& labels) {
  return logits.argmax(1).eq(labels).to(torch::kDouble).mean().item<double>();
}

/// FNV-1a over every tensor's bytes, in layout order.
template <class Optimizer>
std::uint64_t fingerprint(Optimizer& optimizer) {
  tessera::core::Digest digest;
  for (const tessera::Unit u : optimizer.layout().forward()) {
    const auto w = optimizer.gather(u);
    for (const tessera::Tensor t : optimizer.layout().tensors(u)) digest.add(std::as_bytes(w[t]));
  }
  return digest.value();
}

template <class Stage>
example::Result train(const example::Options& options, const mlp::Digits& training, const mlp::Digits& held_out) {
  using Optimizer = tessera::Sharded<tessera::AdamW, Stage, tessera::Fp32, Comm>;
  torch::manual_seed(static_cast<std::uint64_t>(options.seed));
  const auto model = make_model();  // its weights are the initial ones of all ranks
  const tessera::Layout layout = layout_of(model);
  const Batches all_batches(training, options);
  const Batch test = Batches(held_out, options).all();
  const std::int64_t steps = all_batches.steps();
  const int world = options.ranks, passes = options.micro_batches;
  const tessera::Options step_options{.micro_batches = passes};

  example::Result result;
  result.parameters = layout.parameters();
  result.bytes_planned.resize(world);
  result.bytes_counted.resize(world);
  result.elements_sent_per_step.resize(world);
  example::Divergence divergence;           // used by rank 0
  std::vector<std::string> weights(world);  // the tensors that ranks found infinite or NaN at the end
  // A rank may be one step ahead of the rank that sums: the losses of two steps, one per micro-batch.
  std::vector<double> losses[2];
  for (auto& one : losses) one.resize(std::size_t(world) * passes);

  tessera::run_ranks(world, [&](tessera::Local& local) {
    Comm comm(local);
    const int rank = comm.rank();
    Batches batches = all_batches;
    // Buffers are tensors. The gradient buffer is empty at stages 2 and 3, which have their own gradient buckets.
    const auto need = Optimizer::required(layout, world, step_options);
    const auto parameters = torch::zeros(need.parameters), gradients = torch::zeros(need.gradients);
    Optimizer optimizer(comm, layout, {.parameters = span_of(parameters), .gradients = span_of(gradients)},
                        tessera::AdamW{.lr = options.lr}, step_options);
    optimizer.initialize(weights_of(model));
    ShardedModule replica(make_model(), optimizer);  // not model->clone(), which loses the children's names

    example::Progress progress(steps, options.batch, "samples");
    const auto began = std::chrono::steady_clock::now();
    for (std::int64_t number = 0; number < steps; ++number) {
      const bool counted = number == 1 || steps == 1;
      if (counted) comm.clear();
      optimizer.rule().lr = batches.lr(number);
      for (int k = 0; k < passes; ++k) {
        const int j = k * world + rank;  // index of the micro-batch in the step
        losses[number % 2][j] = pass(replica, batches(number, j, world * passes));
      }
      const auto report = optimizer.step();
      if (counted)
        result.elements_sent_per_step[rank] =
            comm.sent(tessera::Collective::reduce_scatter, tessera::Collective::all_gather);
      if (rank != 0) continue;
      double loss = 0;
      for (const double one : losses[number % 2]) loss += one;
      result.losses.push_back(loss / static_cast<double>(losses[number % 2].size()));
      result.skipped_steps += !report.applied();
      divergence.look(number + 1, result.losses.back(), report);
      progress.show(number + 1, result.losses.back());
    }
    const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - began).count();

    weights[rank] = optimizer.finish().first_non_finite_weight();
    result.bytes_planned[rank] = optimizer.plan().bytes();
    result.bytes_counted[rank] = optimizer.bytes();
    const torch::NoGradGuard no_gradients;
    const double reached = share_of(replica.forward(test.images), test.labels);
    const std::uint64_t print = fingerprint(optimizer);
    if (rank != 0) return;
    result.accuracy = reached;
    result.parameters_fingerprint = example::hexadecimal(print);
    result.final_loss = result.losses.back();
    result.seconds_per_step = seconds / static_cast<double>(steps);
  });
  for (const std::string& tensor : weights) divergence.look_at_weights(tensor);
  result.diverged = divergence.text();
  return result;
}

}  // namespace

example::Result train(const example::Options& options, const mlp::Digits& training, const mlp::Digits& held_out) {
  torch::set_num_threads(1);  // ranks are the threads
  switch (options.stage) {
    case 0: return train<tessera::Stage0>(options, training, held_out);
    case 1: return train<tessera::Stage1>(options, training, held_out);
    case 2: return train<tessera::Stage2>(options, training, held_out);
    default: return train<tessera::Stage3>(options, training, held_out);
  }
}

example::Result train_alone(const example::Options& options, const mlp::Digits& training, const mlp::Digits& held_out) {
  torch::set_num_threads(1);
  torch::manual_seed(static_cast<std::uint64_t>(options.seed));
  auto model = make_model();
  Batches batches(training, options);
  const Batch test = Batches(held_out, options).all();
  example::Result result;
  torch::optim::AdamW optimizer(model->parameters(), torch::optim::AdamWOptions(options.lr));
  for (std::int64_t number = 0; number < batches.steps(); ++number) {
    static_cast<torch::optim::AdamWOptions&>(optimizer.param_groups()[0].options()).lr(batches.lr(number));
    result.losses.push_back(step(model, optimizer, batches(number, 0, 1)));
  }
  const torch::NoGradGuard no_gradients;
  result.accuracy = share_of(model->forward(test.images), test.labels);
  result.final_loss = result.losses.back();
  return result;
}

}  // namespace libtorch
