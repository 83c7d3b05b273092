// Norms of whole tensors, for rules that need them: exact sums of the squares of 64-element blocks of the flat space.
// Shards never cut a block, so a norm does not depend on the order of additions or on the world size.
//
//     | tensor 0: digits of the sum of squares of weights | of norm inputs | tensor 1: ...
#pragma once

#include <cstdint>

#include <tessera/comm/communicator.hpp>
#include <tessera/core/math.hpp>
#include <tessera/engine/kernels/tensor_norm.hpp>
#include <tessera/engine/memory/storage.hpp>
#include <tessera/layout/layout.hpp>

namespace tessera::engine {

template <class Executor>
class TensorNorms {
 public:
  TensorNorms(Executor& executor, const Plan& plan, index_t tensors)
      : executor_(&executor), words_(executor, plan.tensor_norms), tensors_(tensors) {}

  void clear() { executor_->for_each(std::ssize(words_.span()), Zero<std::uint64_t>{words_.data()}); }

  /// The sums of squares of a tensor.
  TensorNorm* of(Tensor tensor) const noexcept { return reinterpret_cast<TensorNorm*>(words_.data()) + tensor.index; }

  /// Sums that are not part of any norm. The plan has memory for them if state is sharded over groups.
  TensorNorm* unused() const noexcept { return reinterpret_cast<TensorNorm*>(words_.data()) + tensors_; }

  /// Sums the norms over ranks, and waits. Throws CommError.
  template <class Queue>
  void exchange(Queue& queue, index_t step) {
    const auto words = words_.span().first(to_size(tensors_ * norm_words));
    if (words.empty()) return;
    if constexpr (!Executor::synchronous)  // synchronous executors normalise when they add
      executor_->for_each(std::ssize(words) / ExactSum::limbs,
                          NormaliseSums{reinterpret_cast<ExactSum*>(words_.data())});
    executor_->wait(queue.post(AllReduce(words, Tag{"tensor norms of step", step, step}), executor_->record()));
  }

  /// Computes the norms after all squares are added.
  void finish() {
    const FinishNorms finish{of(Tensor{0})};
    if constexpr (Executor::synchronous)  // its for_each() is compiled as vector code, which this body is not
      executor_->once([finish, tensors = tensors_] {
        for (index_t i = 0; i < tensors; ++i) finish(i);
      });
    else
      executor_->for_each(tensors_, finish);
  }

 private:
  Executor* executor_;
  Storage<Executor, std::uint64_t> words_;
  index_t tensors_;
};

}  // namespace tessera::engine
