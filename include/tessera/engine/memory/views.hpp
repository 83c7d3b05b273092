// Views of a unit for the model: each tensor as a span, wherever the stage stores it.
#pragma once

#include <span>
#include <string>
#include <type_traits>
#include <utility>

#include <tessera/layout/layout.hpp>

namespace tessera {

/// The tensors of one unit. T is const for parameters, and not for gradients. Frozen tensors have no gradients.
template <class T>
class UnitView {
 public:
  /// trainable, frozen: the addresses of the unit's trainable and frozen elements; gradients have no frozen ones.
  UnitView(const Layout& layout, Unit unit, T* trainable, T* frozen)
      : layout_(&layout), unit_(unit), trainable_(trainable), frozen_(frozen) {}

  /// The elements of `tensor`, row-major. Throws UsageError if it belongs to another unit, or is frozen in a view of
  /// gradients.
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

  /// All trainable tensors of the unit, back to back in the order in which they were added.
  std::span<T> trainable() const { return {trainable_, static_cast<std::size_t>(layout_->trainable(unit_).size())}; }

 private:
  const Layout* layout_;
  Unit unit_;
  T* trainable_;
  T* frozen_;
};

/// The parameters of one unit during this object's lifetime. Stage 3 reuses their memory for another unit afterwards.
/// Must not outlive the optimizer.
template <class Parameter>
class Weights : public UnitView<const Parameter> {
 public:
  /// leases: the number of Weights objects of the same memory; null if the memory is not reused.
  Weights(const UnitView<const Parameter>& view, int* leases) : UnitView<const Parameter>(view), leases_(leases) {
    if (leases_) ++*leases_;
  }
  Weights(Weights&& other) noexcept
      : UnitView<const Parameter>(other), leases_(std::exchange(other.leases_, nullptr)) {}
  Weights& operator=(Weights&&) = delete;
  ~Weights() {
    if (leases_) --*leases_;
  }

  /// As in UnitView. Deleted for a temporary, because stage 3 may reuse its memory after the full expression.
  std::span<const Parameter> operator[](Tensor tensor) const& { return UnitView<const Parameter>::operator[](tensor); }
  std::span<const Parameter> operator[](Tensor) const&& = delete;
  std::span<const Parameter> trainable() const& { return UnitView<const Parameter>::trainable(); }
  std::span<const Parameter> trainable() const&& = delete;

 private:
  int* leases_;
};

}  // namespace tessera
