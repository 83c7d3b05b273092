// Tensors grouped into units, in order of forward use, and where each lies in the flat space. Pure integers and names:
// no memory, no ranks. Usable in constant expressions.
//
//     flat space   | unit 0 |.| unit 1 |.|   unit 2   | . | frozen of unit 0 |.| frozen of unit 2 |
//
// A unit starts at a multiple of `block` elements. Frozen tensors lie in a space of their own, behind the trainable one
// in the parameter buffer; the gradient buffer ends where the trainable space does.
#pragma once

#include <initializer_list>
#include <limits>
#include <span>
#include <string>
#include <string_view>

#include <tessera/core/digest.hpp>
#include <tessera/core/error.hpp>
#include <tessera/core/list.hpp>
#include <tessera/core/math.hpp>
#include <tessera/layout/range.hpp>

namespace tessera {

/// A handle to a unit of a layout: what is gathered and reduced as one, a layer as a rule.
struct Unit {
  int index = 0;
  friend constexpr bool operator==(Unit, Unit) = default;
};

/// A handle to a tensor of a layout.
struct Tensor {
  int index = 0;
  friend constexpr bool operator==(Tensor, Tensor) = default;
};

/// group: which of the optimizer's rules updates the tensor. frozen: no gradient, no state, no bytes of either.
struct TensorOptions {
  int group = 0;
  bool frozen = false;
};

class Layout {
 public:
  constexpr Layout() = default;

  /// A framework's one flat buffer of n trainable elements, reported ready by range. Stages 0 and 1.
  static constexpr Layout flat(index_t n) {
    Layout layout;
    layout.add_unit("flat");
    layout.add_tensor("buffer", {n});
    layout.flat_ = true;
    return layout;
  }

  /// Adds a unit behind those that are there. Throws LayoutError if the name is taken.
  constexpr Unit add_unit(std::string_view name) {
    if (flat_) refuse(message({"a flat layout takes no further unit: '", name, "'"}));
    for (const UnitRecord& unit : units_)
      if (text(unit.name) == name) refuse(message({"two units are named '", name, "'"}));
    const index_t begin = round_up(trainable_elements(), block);
    const index_t frozen = round_up(frozen_elements(), block);
    const int tensor = static_cast<int>(tensors_.size());
    units_.push_back({keep(name), tensor, tensor, {begin, begin}, {frozen, frozen}});
    return Unit{static_cast<int>(units_.size()) - 1};
  }

  /// Adds a tensor to the unit added last. shape: elements a dimension, each >= 0.
  /// Throws LayoutError without a unit, on a name taken in the unit, a negative size, or more than 2^55 elements.
  constexpr Tensor add_tensor(std::string_view name, std::initializer_list<index_t> shape, TensorOptions options = {}) {
    return add_tensor(name, std::span<const index_t>(shape.begin(), shape.size()), options);
  }

  constexpr Tensor add_tensor(std::string_view name, std::span<const index_t> shape, TensorOptions options = {}) {
    if (units_.empty() || flat_) refuse(message({"tensor '", name, "' has no unit: call add_unit first"}));
    UnitRecord& unit = units_.back();
    for (int t = unit.first_tensor; t < unit.last_tensor; ++t)
      if (text(tensors_[t].name) == name)
        refuse(message({"unit '", text(unit.name), "' has two tensors named '", name, "'"}));
    if (options.group < 0) refuse(message({"tensor '", name, "' has a negative hyperparameter group"}));
    const index_t elements = product(name, shape);
    Range& space = options.frozen ? unit.frozen : unit.trainable;
    if (elements > most - parameter_elements() - 2 * block)
      refuse(message({"the layout has more than 2^55 elements at '", name, "'"}));
    const int first = static_cast<int>(shape_.size());
    for (const index_t size : shape) shape_.push_back(size);
    const int unit_index = static_cast<int>(units_.size()) - 1;
    tensors_.push_back(
        {keep(name), unit_index, first, static_cast<int>(shape_.size()), {space.end, space.end + elements}, options});
    space.end += elements;
    ++unit.last_tensor;
    return Tensor{static_cast<int>(tensors_.size()) - 1};
  }

  /// Says that `user` also uses the tensors of `owner` (a head that shares the embedding's): while `user` is at work,
  /// `owner` is gathered too and its gradients stay open. Throws LayoutError if `owner` is not used last in backward.
  constexpr void tie(Unit user, Unit owner) {
    if (unit(owner).last_tensor < 0 || unit(user).last_tensor < 0 || owner.index >= user.index)
      refuse(message({"unit '", name(user), "' cannot be tied to '", name(owner),
                      "': the tensors belong to the unit that comes first in forward"}));
    ties_.push_back({user, owner});
  }

  /// The units in order of forward use, and of backward.
  constexpr Handles<Unit> forward() const { return {0, static_cast<int>(units_.size()), 1}; }
  constexpr Handles<Unit> backward() const { return {static_cast<int>(units_.size()) - 1, -1, -1}; }

  constexpr Handles<Tensor> tensors(Unit u) const { return {unit(u).first_tensor, unit(u).last_tensor, 1}; }
  constexpr Handles<Tensor> tensors() const { return {0, static_cast<int>(tensors_.size()), 1}; }

  /// Where the tensor begins in the parameter buffer (and, unless it is frozen, in the gradient buffer), in elements.
  constexpr index_t offset(Tensor t) const { return (frozen(t) ? frozen_begin() : 0) + tensor(t).place.begin; }
  constexpr index_t elements(Tensor t) const { return tensor(t).place.size(); }
  constexpr std::span<const index_t> shape(Tensor t) const {
    const TensorRecord& of = tensor(t);
    return {shape_.data() + of.first_dimension, static_cast<std::size_t>(of.last_dimension - of.first_dimension)};
  }
  constexpr int group(Tensor t) const { return tensor(t).options.group; }
  /// Hyperparameter groups: one more than the last that a tensor is of.
  constexpr int groups() const {
    int last = 0;
    for (const Tensor t : tensors()) last = max(last, group(t));
    return last + 1;
  }
  constexpr bool frozen(Tensor t) const { return tensor(t).options.frozen; }
  constexpr Unit unit_of(Tensor t) const { return Unit{tensor(t).unit}; }

  constexpr std::string_view name(Unit u) const { return text(unit(u).name); }
  /// "unit.tensor", as messages and files have it.
  std::string name(Tensor t) const { return message({name(unit_of(t)), ".", text(tensor(t).name)}); }
  /// The tensor of that full name. Throws LayoutError if there is none.
  Tensor find(std::string_view full_name) const {
    for (const Tensor t : tensors())
      if (name(t) == full_name) return t;
    throw LayoutError(message({"the layout has no tensor '", full_name, "'"}));
  }

  /// The name of the trainable tensor that has the element at `place`; "padding" between units. Of a flat layout, whose
  /// tensors are the caller's affair, the element's index too: "flat.buffer[777]".
  std::string name_at(index_t place) const {
    if (flat_) return message({"flat.buffer[", place, "]"});
    for (const Tensor t : tensors())
      if (!frozen(t) && tensor(t).place.begin <= place && place < tensor(t).place.end) return name(t);
    return "padding";
  }

  /// A unit's trainable elements in the trainable space, and its frozen ones in the frozen space.
  constexpr Range trainable(Unit u) const { return unit(u).trainable; }
  constexpr Range frozen(Unit u) const { return unit(u).frozen; }
  /// A tensor's place in its own space.
  constexpr Range place(Tensor t) const { return tensor(t).place; }

  /// Elements of the two spaces, gaps between units included, and of the parameter buffer that holds both.
  constexpr index_t trainable_elements() const { return units_.empty() ? 0 : units_.back().trainable.end; }
  constexpr index_t frozen_elements() const { return units_.empty() ? 0 : units_.back().frozen.end; }
  constexpr index_t frozen_begin() const { return round_up(trainable_elements(), block); }
  constexpr index_t parameter_elements() const {
    return frozen_elements() == 0 ? trainable_elements() : frozen_begin() + frozen_elements();
  }
  /// Elements of all tensors, without gaps: the number a paper would print.
  constexpr index_t parameters() const {
    index_t sum = 0;
    for (const Tensor t : tensors()) sum += elements(t);
    return sum;
  }

  constexpr int units() const { return static_cast<int>(units_.size()); }
  constexpr bool is_flat() const { return flat_; }

  /// Whether `user` was tied to `owner`.
  constexpr bool tied(Unit user, Unit owner) const {
    for (const Tie& tie : ties_)
      if (tie.user == user && tie.owner == owner) return true;
    return false;
  }
  /// Whether any unit was tied to `owner`.
  constexpr bool tied_to(Unit owner) const {
    for (const Tie& tie : ties_)
      if (tie.owner == owner) return true;
    return false;
  }
  /// How many units are tied to by others: what a pool must hold beside the unit at work.
  constexpr int tied_units() const {
    int count = 0;
    for (const Unit u : forward()) count += tied_to(u);
    return count;
  }

  /// What ranks compare: every name, shape, group and tie.
  constexpr std::uint64_t digest() const {
    Digest digest;
    digest.add(index_t{flat_});
    for (const Unit u : forward()) {
      digest.add(name(u));
      for (const Tensor t : tensors(u)) {
        digest.add(text(tensor(t).name)).add(group(t)).add(index_t{frozen(t)});
        for (const index_t size : shape(t)) digest.add(size);
      }
    }
    for (const Tie& tie : ties_) digest.add(tie.user.index).add(tie.owner.index);
    return digest.value();
  }

 private:
  struct Text {
    int begin, end;
  };
  struct UnitRecord {
    Text name;
    int first_tensor, last_tensor;
    Range trainable, frozen;
  };
  struct TensorRecord {
    Text name;
    int unit;
    int first_dimension, last_dimension;
    Range place;
    TensorOptions options;
  };
  struct Tie {
    Unit user, owner;
  };

  static constexpr index_t most = index_t{1} << 55;

  [[noreturn]] static void refuse(const std::string& why) { throw LayoutError(message({"layout: ", why})); }

  constexpr const UnitRecord& unit(Unit u) const {
    if (u.index < 0 || u.index >= units()) refuse(message({"there is no unit ", u.index}));
    return units_[u.index];
  }
  constexpr const TensorRecord& tensor(Tensor t) const {
    if (t.index < 0 || t.index >= static_cast<int>(tensors_.size())) refuse(message({"there is no tensor ", t.index}));
    return tensors_[t.index];
  }

  static constexpr index_t product(std::string_view name, std::span<const index_t> shape) {
    index_t elements = 1;
    for (const index_t size : shape) {
      if (size < 0) refuse(message({"tensor '", name, "' has a negative size"}));
      if (size != 0 && elements > most / size) refuse(message({"tensor '", name, "' has more than 2^55 elements"}));
      elements *= size;
    }
    return elements;
  }

  // Names stand in one array of characters, not in std::string, which clang cannot use in constant expressions with
  // the standard library of g++ 12.
  constexpr Text keep(std::string_view name) {
    const int begin = static_cast<int>(names_.size());
    for (const char letter : name) names_.push_back(letter);
    return {begin, static_cast<int>(names_.size())};
  }
  constexpr std::string_view text(Text name) const {
    return {names_.data() + name.begin, static_cast<std::size_t>(name.end - name.begin)};
  }

  List<char> names_;
  List<index_t> shape_;
  List<UnitRecord> units_;
  List<TensorRecord> tensors_;
  List<Tie> ties_;
  bool flat_ = false;
};

}  // namespace tessera
