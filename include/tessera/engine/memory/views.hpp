// Views of a unit for the model: each tensor as a span, wherever the stage stores it.
#pragma once

#include <array>
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
  /// The addresses of the unit's elements in each space; gradients have no frozen ones.
  using Addresses = std::array<T*, layout::most_rules + 1>;

  UnitView(const Layout& layout, Unit unit, const Addresses& addresses)
      : layout_(&layout), unit_(unit), addresses_(addresses) {}
  /// For a layout with one rule.
  UnitView(const Layout& layout, Unit unit, T* trainable, T* frozen)
      : UnitView(layout, unit, Addresses{trainable, frozen}) {}

  /// The elements of `tensor`, row-major. Throws UsageError if it belongs to another unit, or is frozen in a view of
  /// gradients.
  std::span<T> operator[](Tensor tensor) const {
    const Layout& layout = *layout_;
    if (layout.unit_of(tensor) != unit_)
      throw UsageError(message(
          {"tensor '", layout.name(tensor), "' is not of unit '", layout.name(unit_), "': ask for its own unit"}));
    if (layout.frozen(tensor) && !std::is_const_v<T>)
      throw UsageError(message({"tensor '", layout.name(tensor), "' is frozen: it has no gradients"}));
    const int space = layout.space(tensor);
    const Range place = layout.place(tensor);
    return {addresses_[to_size(space)] + (place.begin - layout.range(unit_, space).begin), to_size(place.size())};
  }

  /// All trainable tensors of the unit with a rule, back to back in the order in which they were added.
  std::span<T> trainable(int rule = 0) const {
    return {addresses_[to_size(rule)], to_size(layout_->trainable(unit_, rule).size())};
  }

 private:
  const Layout* layout_;
  Unit unit_;
  Addresses addresses_;
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
  std::span<const Parameter> trainable(int rule = 0) const& { return UnitView<const Parameter>::trainable(rule); }
  std::span<const Parameter> trainable(int = 0) const&& = delete;

 private:
  int* leases_;
};

}  // namespace tessera
