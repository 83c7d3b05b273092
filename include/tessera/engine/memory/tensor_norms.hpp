// The norms of whole tensors, for rules that need them, however shards cut a tensor: exact sums of squares of
// 64-element blocks of the flat space, which no border of a shard cuts, so that order and world size do not show.
//
//     | tensor 0: digits of the weights' squares | of the norm inputs' | tensor 1: ...
#pragma once

#include <cstdint>

#include <tessera/comm/communicator.hpp>
#include <tessera/core/exact_sum.hpp>
#include <tessera/core/math.hpp>
#include <tessera/engine/memory/storage.hpp>
#include <tessera/layout/layout.hpp>

namespace tessera::engine {

/// Words of a tensor in the one all-reduce for all tensors.
inline constexpr index_t norm_words = 2 * ExactSum::limbs;

/// A tensor's two, in the executor's memory: sums of squares until finish(), then their roots.
struct TensorNorm {
  ExactSum weights;
  ExactSum norm_input;

  /// Once for all the elements of an update, each of which reads the roots: rounding an exact sum is long.
  TESSERA_HD void finish() noexcept {
    weights.set_digit(0, bits_as<std::uint64_t>(::sqrt(weights.value())));
    norm_input.set_digit(0, bits_as<std::uint64_t>(::sqrt(norm_input.value())));
  }
  TESSERA_HD double of_weights() const noexcept { return bits_as<double>(weights.digit(0)); }
  TESSERA_HD double of_norm_input() const noexcept { return bits_as<double>(norm_input.digit(0)); }
};
static_assert(sizeof(TensorNorm) == norm_words * sizeof(std::uint64_t));

/// A loop over exact sums that lie one after another.
struct NormaliseSums {
  ExactSum* sums;
  TESSERA_HD void operator()(index_t i) const noexcept { sums[i].normalise(); }
};

/// A loop over tensors.
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

  /// Where a tensor's squares are added.
  TensorNorm* of(Tensor tensor) const noexcept { return reinterpret_cast<TensorNorm*>(words_.data()) + tensor.index; }

  /// One more, for what counts in no tensor's; where the plan has memory for it.
  TensorNorm* unused() const noexcept { return reinterpret_cast<TensorNorm*>(words_.data()) + tensors_; }

  /// Sums over ranks, and waits. Throws CommError.
  template <class Queue>
  void exchange(Queue& queue, index_t step) {
    const auto words = words_.span().first(to_size(tensors_ * norm_words));
    if (words.empty()) return;
    if constexpr (!Executor::synchronous)  // else what was added is normalised
      executor_->for_each(std::ssize(words) / ExactSum::limbs,
                          NormaliseSums{reinterpret_cast<ExactSum*>(words_.data())});
    executor_->wait(queue.post(AllReduce(words, Tag{"tensor norms of step", step, step}), executor_->record()));
  }

  /// When all is added.
  void finish() {
    const FinishNorms finish{of(Tensor{0})};
    if constexpr (Executor::synchronous)  // whose loops are vector code, which this is not
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
