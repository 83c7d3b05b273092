// The norms of whole tensors, for rules that need them, however shards cut a tensor: exact sums of squares of
// 64-element blocks of the flat space, which no border of a shard cuts, so that order and world size do not show.
//
//     | tensor 0: digits of the weights' squares | of the measured numbers' | tensor 1: ...
#pragma once

#include <cstdint>

#include <tessera/comm/communicator.hpp>
#include <tessera/core/exact_sum.hpp>
#include <tessera/engine/storage.hpp>
#include <tessera/layout/layout.hpp>

namespace tessera {

/// Words of a tensor in the one all-reduce for all tensors.
inline constexpr index_t norm_words = 2 * ExactSum::limbs;

template <class Executor>
class TensorNorms {
 public:
  TensorNorms(Executor& executor, const Plan& plan) : executor_(&executor), words_(executor, plan.tensor_norms) {}

  void clear() noexcept {
    for (std::uint64_t& word : words_.span()) word = 0;
  }

  /// This rank's part of a tensor.
  void set(Tensor tensor, ExactSum& weights, ExactSum& measured) noexcept {
    weights.normalise();
    measured.normalise();
    for (int i = 0; i < ExactSum::limbs; ++i) {
      words(tensor)[i] = weights.digit(i);
      words(tensor)[ExactSum::limbs + i] = measured.digit(i);
    }
  }

  /// Sums over ranks, and waits. Throws CommError.
  template <class Queue>
  void exchange(Queue& queue, index_t step) {
    if (words_.span().empty()) return;
    executor_->wait(queue.all_reduce(words_.span(), Tag{"tensor norms of step", step, step}, executor_->record()));
  }

  double of_weights(Tensor tensor) const noexcept { return norm(words(tensor)); }
  double of_measured(Tensor tensor) const noexcept { return norm(words(tensor) + ExactSum::limbs); }

 private:
  std::uint64_t* words(Tensor tensor) const noexcept { return words_.data() + tensor.index * norm_words; }

  static double norm(const std::uint64_t* digits) noexcept {
    ExactSum sum;
    for (int i = 0; i < ExactSum::limbs; ++i) sum.set_digit(i, digits[i]);
    return ::sqrt(sum.value());
  }

  Executor* executor_;
  Storage<Executor, std::uint64_t> words_;
};

}  // namespace tessera
