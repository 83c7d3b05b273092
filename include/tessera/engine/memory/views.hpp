// What a model sees of a unit: each tensor as a span, wherever the stage keeps it.
#pragma once

#include <span>
#include <string>
#include <type_traits>
#include <utility>

#include <tessera/layout/layout.hpp>

namespace tessera {

/// The tensors of one unit. T is const for parameters, and not for gradients, which frozen tensors lack.
template <class T>
class UnitView {
 public:
  /// trainable, frozen: where the unit's two runs of tensors begin; gradients have no second one.
  UnitView(const Layout& layout, Unit unit, T* trainable, T* frozen)
      : layout_(&layout), unit_(unit), trainable_(trainable), frozen_(frozen) {}

  /// The elements of `tensor`, row-major. Throws UsageError if it is of another unit, or frozen and has no gradients.
  std::span<T> operator[](Tensor tensor) const {
    const Layout& layout = *layout_;
    if (layout.unit_of(tensor) != unit_)
      throw UsageError(message(
          {"tensor '", layout.name(tensor), "' is not of unit '", layout.name(unit_), "': ask for its own unit"}));
    const bool frozen = layout.frozen(tensor);
    if (frozen && !std::is_const_v<T>)
      throw UsageError(message({"tensor '", layout.name(tensor), "' is frozen: it has no gradients"}));
    const Range unit = frozen ? layout.frozen(unit_) : layout.trainable(unit_);
    const Range place = layout.place(tensor);
    return {(frozen ? frozen_ : trainable_) + (place.begin - unit.begin), static_cast<std::size_t>(place.size())};
  }

  /// All trainable tensors of the unit, back to back in the order they were added.
  std::span<T> trainable() const { return {trainable_, static_cast<std::size_t>(layout_->trainable(unit_).size())}; }

 private:
  const Layout* layout_;
  Unit unit_;
  T* trainable_;
  T* frozen_;
};

/// The parameters of one unit, for as long as this lives; stage 3 gives their memory to another unit afterwards.
/// Must not outlive the optimizer.
template <class Parameter>
class Weights : public UnitView<const Parameter> {
 public:
  /// leases: how many of these look at the same memory; null where the memory stays.
  Weights(const UnitView<const Parameter>& view, int* leases) : UnitView<const Parameter>(view), leases_(leases) {
    if (leases_) ++*leases_;
  }
  Weights(Weights&& other) noexcept
      : UnitView<const Parameter>(other), leases_(std::exchange(other.leases_, nullptr)) {}
  Weights& operator=(Weights&&) = delete;
  ~Weights() {
    if (leases_) --*leases_;
  }

  /// As UnitView. Not of a temporary, whose memory stage 3 may have given to another unit by the next line.
  std::span<const Parameter> operator[](Tensor tensor) const& { return UnitView<const Parameter>::operator[](tensor); }
  std::span<const Parameter> operator[](Tensor) const&& = delete;
  std::span<const Parameter> trainable() const& { return UnitView<const Parameter>::trainable(); }
  std::span<const Parameter> trainable() const&& = delete;

 private:
  int* leases_;
};

}  // namespace tessera
