// A unit's parameters and gradients as floats, in which the layers compute, whatever type the precision stores.
#pragma once

#include <cuda_runtime.h>

#include <algorithm>
#include <cstdint>
#include <span>
#include <type_traits>

#include <tessera/cuda/runtime/error.cuh>
#include <tessera/engine/memory/views.hpp>
#include <tessera/layout/layout.hpp>

#include "common/cuda/layers.cuh"

namespace example::cuda {

/// Elements of the largest unit.
inline std::int64_t largest_unit(const tessera::Layout& layout) {
  std::int64_t largest = 0;
  for (const tessera::Unit u : layout.forward()) largest = std::max<std::int64_t>(largest, layout.trainable(u).size());
  return largest;
}

/// The parameters themselves if they are floats, else converted into `room`. Enqueues.
template <class Stored>
class Parameters {
 public:
  Parameters(cudaStream_t stream, const tessera::UnitView<const Stored>& unit, float* room) : unit_(unit), room_(room) {
    if constexpr (!std::is_same_v<Stored, float>) {
      const std::span<const Stored> all = unit.trainable();
      to_floats(stream, all.data(), std::ssize(all), room);
    }
  }
  const float* operator[](tessera::Tensor t) const {
    if constexpr (std::is_same_v<Stored, float>)
      return unit_[t].data();
    else
      return room_ + (unit_[t].data() - unit_.trainable().data());
  }

 private:
  const tessera::UnitView<const Stored>& unit_;
  float* room_;
};

/// Where a unit's gradients are summed: the optimizer's memory if it has floats, else `room`, which is cleared first
/// and which finish() adds to the optimizer's memory. Enqueues.
template <class Stored>
class Sums {
 public:
  Sums(cudaStream_t stream, const tessera::UnitView<Stored>& unit, float* room)
      : stream_(stream), unit_(unit), room_(room) {
    if constexpr (!std::is_same_v<Stored, float>)
      tessera::cuda_check(cudaMemsetAsync(room, 0, unit.trainable().size() * sizeof(float), stream), "clearing sums");
  }
  float* operator[](tessera::Tensor t) const {
    if constexpr (std::is_same_v<Stored, float>)
      return unit_[t].data();
    else
      return room_ + (unit_[t].data() - unit_.trainable().data());
  }
  void finish() const {
    if constexpr (!std::is_same_v<Stored, float>) {
      const std::span<Stored> all = unit_.trainable();
      add(stream_, room_, std::ssize(all), all.data());
    }
  }

 private:
  cudaStream_t stream_;
  const tessera::UnitView<Stored>& unit_;
  float* room_;
};

}  // namespace example::cuda
