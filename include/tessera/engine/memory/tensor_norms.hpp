// Norms of whole tensors, for rules that need them: exact sums of the squares of 64-element blocks of the flat space.
// Shards never cut a block, so a norm does not depend on the order of additions or on the world size.
//
//     | tensor 0: digits of the sum of squares of weights | of norm inputs | tensor 1: ...
#pragma once

#include <cstdint>

#include <tessera/comm/communicator.hpp>
#include <tessera/core/exact_sum.hpp>
#include <tessera/core/math.hpp>
#include <tessera/engine/memory/storage.hpp>
#include <tessera/layout/layout.hpp>

namespace tessera::engine {

/// Words per tensor in the all-reduce of the norms.
inline constexpr index_t norm_words = 2 * ExactSum::limbs;

/// The two norms of a tensor in executor memory: sums of squares until finish(), then their square roots.
struct TensorNorm {
  ExactSum weights;
  ExactSum norm_input;

  /// Computes the square roots once, because rounding an exact sum is slow and every element of an update reads them.
  TESSERA_HD void finish() noexcept {
    weights.set_digit(0, bits_as<std::uint64_t>(::sqrt(weights.value())));
    norm_input.set_digit(0, bits_as<std::uint64_t>(::sqrt(norm_input.value())));
  }
  TESSERA_HD double of_weights() const noexcept { return bits_as<double>(weights.digit(0)); }
  TESSERA_HD double of_norm_input() const noexcept { return bits_as<double>(norm_input.digit(0)); }
};
static_assert(sizeof(TensorNorm) == norm_words * sizeof(std::uint64_t));

/// A loop body over exact sums.
struct NormaliseSums {
  ExactSum* sums;
  TESSERA_HD void operator()(index_t i) const noexcept { sums[i].normalise(); }
};

/// A loop body over tensors.
struct FinishNorms {
  TensorNorm* norms;
  TESSERA_HD void operator()(index_t i) const noexcept { norms[i].finish(); }
};

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
