// A libtorch module that uses Tessera's buffers, at any stage. It copies no weight and no gradient: parameters are
// views of gathered weights, .grad() is a view of a pass's gradients, and autograd's hooks report when a unit is
// complete. A user of libtorch would write this once; it is independent of the model.
//
//     forward    gather -> parameters are views of it | child's forward | released     unit by unit
//     backward   gather, at the gradient of the unit's output           | child's backward
//                before a gradient is added: .grad() becomes a view of the bucket, to which autograd adds
//                after the unit's last gradient: ready(unit), full buckets are reduced, autograd continues
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include <torch/csrc/autograd/function.h>
#include <torch/csrc/autograd/utils/lambda_post_hook.h>
#include <torch/nn/modules/container/sequential.h>

#include <tessera/sharded.hpp>

namespace libtorch {

/// The memory of a contiguous float tensor, for example a buffer for Sharded.
inline std::span<float> span_of(const torch::Tensor& tensor) {
  return {tensor.data_ptr<float>(), static_cast<std::size_t>(tensor.numel())};
}

/// A unit for each child with parameters, with the child's name, and a tensor for each of its parameters. Parameters
/// that do not require gradients are frozen. Children must be in the order of forward, as in a Sequential.
/// Throws std::invalid_argument if two children share a parameter or a parameter is not float.
inline tessera::Layout layout_of(const torch::nn::Sequential& model) {
  tessera::Layout layout;
  std::vector<const void*> seen;
  for (const auto& child : model->named_children()) {
    const auto parameters = child.value()->named_parameters();
    if (parameters.is_empty()) continue;
    layout.add_unit(child.key());
    for (const auto& parameter : parameters) {
      const torch::Tensor& tensor = parameter.value();
      const std::string name = child.key() + "." + parameter.key();
      if (tensor.scalar_type() != torch::kFloat) throw std::invalid_argument(name + " is not of floats");
      for (const void* other : seen)
        if (other == tensor.unsafeGetTensorImpl())
          throw std::invalid_argument(name + " is another child's parameter too: put both into one child");
      seen.push_back(tensor.unsafeGetTensorImpl());
      layout.add_tensor(parameter.key(), std::span(tensor.sizes().data(), tensor.sizes().size()),
                        {.frozen = !tensor.requires_grad()});
    }
  }
  return layout;
}

/// For Sharded::initialize: the module's current weights.
inline auto weights_of(const torch::nn::Sequential& model) {
  std::vector<torch::Tensor> tensors;  // in the order of layout_of
  for (const torch::Tensor& parameter : model->parameters()) tensors.push_back(parameter.contiguous());
  return [tensors](tessera::Tensor t, tessera::index_t i) { return tensors[t.index].data_ptr<float>()[i]; };
}

/// One rank's replica of a module whose layout is layout_of(module). The constructor blocks until the weights are
/// there. From then on the module's parameters are the optimizer's: at stages 0 to 2 they can be read whenever the
/// optimizer has finished, at stage 3 within forward and backward only. Module and optimizer must outlive it.
/// Use it on the rank's own thread, on which libtorch's engine also runs the backward of tensors in host memory.
template <class Rule, class Stage, class Precision, class Comm>
class ShardedModule {
  static_assert(std::is_same_v<typename Precision::Parameter, float> &&
                    std::is_same_v<typename Precision::Gradient, float>,
                "ShardedModule looks at floats: the precision must be Fp32");

 public:
  using Optimizer = tessera::Sharded<Rule, Stage, Precision, Comm>;

  ShardedModule(torch::nn::Sequential module, Optimizer& optimizer)
      : module_(std::move(module)), optimizer_(optimizer), missing_(optimizer.layout().units()) {
    const tessera::Layout& layout = optimizer.layout();
    const auto parameters = module_->parameters();
    if (layout_of(module_).digest() != layout.digest())
      throw std::invalid_argument("ShardedModule: the optimizer's layout is not layout_of(module)");
    for (const tessera::Tensor t : layout.tensors()) adopt(t, parameters[t.index]);
    for (const tessera::Unit u : layout.forward()) open(u);
    close();
  }

  ShardedModule(const ShardedModule&) = delete;
  ShardedModule& operator=(const ShardedModule&) = delete;

  ~ShardedModule() {
    for (const Slot& slot : slots_)
      if (slot.accumulator) slot.parameter.remove_hook(slot.hook);
  }

  /// Runs the children in order, each with its unit's weights. Blocks until they are gathered.
  torch::Tensor forward(torch::Tensor x) {
    tessera::Unit next{0};
    for (auto& child : *module_) {
      if (child.ptr()->parameters().empty()) {
        x = child.forward(x);
        continue;
      }
      const tessera::Unit unit = std::exchange(next, {next.index + 1});
      {
        const Closer after{*this};
        open(unit);
        x = child.forward(x);
      }
      // Runs first in the unit's backward, before anything of the unit is differentiated.
      if (x.requires_grad()) x.register_hook([this, unit](const torch::Tensor&) { open(unit); });
    }
    return x;
  }

  /// The backward of one micro-batch, for a loss computed from forward's result. Buckets are reduced while autograd
  /// runs. Throws what the optimizer throws. A parameter that does not affect the loss is an error of the next step().
  void backward(const torch::Tensor& loss) {
    const tessera::Layout& layout = optimizer_.layout();
    auto pass = optimizer_.backward();
    const Closer after{*this};
    pass_ = &pass;  // until `after`
    for (const tessera::Unit u : layout.backward()) {
      missing_[u.index] = 0;
      for (const tessera::Tensor t : layout.tensors(u)) missing_[u.index] += !layout.frozen(t);
      if (missing_[u.index] == 0) pass.ready(u);
    }
    loss.backward();
  }

 private:
  using Pass = typename Optimizer::Pass;

  struct Slot {
    torch::Tensor parameter;
    c10::Storage storage;  ///< of the parameter, and of every view of it that autograd saved
    unsigned hook;
    std::shared_ptr<torch::autograd::Node> accumulator;  ///< null if frozen; else kept alive, as the tensor does not
  };

  struct Closer {
    ShardedModule& module;
    ~Closer() {
      module.end_pass();
      module.close();
    }
  };

  // The parameter remains the same tensor for the module and autograd; its storage becomes one that owns no memory.
  void adopt(tessera::Tensor t, torch::Tensor parameter) {
    const auto bytes = static_cast<std::size_t>(parameter.numel()) * sizeof(float);
    const c10::Storage storage(c10::Storage::use_byte_size_t(), bytes, at::DataPtr(nullptr, at::kCPU));
    parameter.set_data(torch::empty({0}).set_(storage, 0, parameter.sizes()));
    slots_.push_back({parameter, storage, 0, nullptr});
    if (!parameter.requires_grad()) return;
    Slot& slot = slots_.back();
    // Before autograd adds: .grad() becomes a view of the tensor's gradient in the current bucket (at stages 2 and 3
    // another one in the next pass), and autograd adds to it. After it has added: the unit may be complete.
    slot.hook = parameter.register_hook([this, t](const torch::Tensor&) { aim_gradient(t); });
    slot.accumulator = torch::autograd::impl::grad_accumulator(parameter);
    slot.accumulator->add_post_hook(std::make_unique<torch::autograd::utils::LambdaPostHook>(
        [this, t](const torch::autograd::variable_list& outputs, const torch::autograd::variable_list&) {
          added(t);
          return outputs;
        }));
  }

  // Gathers the unit and makes its parameters views of the weights, instead of the unit that was open.
  void open(tessera::Unit unit) {
    if (weights_ && unit_ == unit) return;
    close();
    weights_.emplace(optimizer_.gather(unit));
    unit_ = unit;
    for (const tessera::Tensor t : optimizer_.layout().tensors(unit))
      slots_[t.index].storage.set_data_ptr_noswap(
          at::DataPtr(const_cast<float*>((*weights_)[t].data()), at::kCPU));  // libtorch has no views of const memory
  }

  void close() noexcept {
    if (!weights_) return;
    // Another unit will use that memory: an access must end the program instead of reading the other unit's weights.
    if constexpr (Stage::shards_parameters)
      for (const tessera::Tensor t : optimizer_.layout().tensors(unit_))
        slots_[t.index].storage.set_data_ptr_noswap(at::DataPtr(nullptr, at::kCPU));
    weights_.reset();
  }

  // The views in .grad() are of buckets that were sent or dropped.
  void end_pass() noexcept {
    if (!std::exchange(pass_, nullptr)) return;
    for (Slot& slot : slots_)
      if (slot.accumulator) slot.parameter.mutable_grad().reset();
  }

  void aim_gradient(tessera::Tensor t) {
    if (!pass_) throw tessera::UsageError("a backward of libtorch's own: call ShardedModule::backward(loss)");
    torch::Tensor& parameter = slots_[t.index].parameter;
    const auto gradient = pass_->gradients(optimizer_.layout().unit_of(t))[t];
    parameter.mutable_grad() = torch::from_blob(gradient.data(), parameter.sizes());
  }

  void added(tessera::Tensor t) {
    const tessera::Unit unit = optimizer_.layout().unit_of(t);
    if (--missing_[unit.index] == 0) pass_->ready(unit);
  }

  torch::nn::Sequential module_;
  Optimizer& optimizer_;
  std::vector<Slot> slots_;   // by tensor
  std::vector<int> missing_;  // by unit: the number of gradients still missing in this pass
  Pass* pass_ = nullptr;
  tessera::Unit unit_{};  // whose weights are gathered
  std::optional<tessera::Weights<float>> weights_;
};

}  // namespace libtorch
