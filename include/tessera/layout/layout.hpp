// Tensors grouped into units in order of forward use, and their offsets in the flat space. Only integers and names: no
// memory, no ranks. Usable in constant expressions.
//
//     flat space   | unit 0 |.| unit 1 |.|   unit 2   | . | frozen of unit 0 |.| frozen of unit 2 |
//
// A unit starts at a multiple of `block` elements. Frozen tensors have a separate space, which follows the trainable
// space in the parameter buffer. The gradient buffer has only the trainable space.
#pragma once

#include <initializer_list>
#include <limits>
#include <span>
#include <string>
#include <string_view>

#include <tessera/core/digest.hpp>
#include <tessera/core/error.hpp>
#include <tessera/core/hash_index.hpp>
#include <tessera/core/list.hpp>
#include <tessera/core/math.hpp>
#include <tessera/layout/names.hpp>
#include <tessera/layout/range.hpp>

namespace tessera {

/// A handle to a unit of a layout: tensors that are gathered and reduced together, usually one layer.
struct Unit {
  int index = 0;
  friend constexpr bool operator==(Unit, Unit) = default;
};

/// A handle to a tensor of a layout.
struct Tensor {
  int index = 0;
  friend constexpr bool operator==(Tensor, Tensor) = default;
};

/// group: the index of the rule that updates the tensor. frozen: not trained, without gradients and state.
struct TensorOptions {
  int group = 0;
  bool frozen = false;
};

class Layout {
 public:
  constexpr Layout() = default;

  /// The layout of a framework's flat buffer of n trainable elements, marked ready by range. Stages 0 and 1.
  static constexpr Layout flat(index_t n) {
    Layout layout;
    layout.add_unit("flat");
    layout.add_tensor("buffer", {n});
    layout.flat_ = true;
    return layout;
  }

  /// Adds a unit after the existing ones. Throws LayoutError if the name is taken.
  constexpr Unit add_unit(std::string_view name) {
    if (flat_) refuse(message({"a flat layout takes no further unit: '", name, "'"}));
    if (!unit_names_.add(0, name)) refuse(message({"two units are named '", name, "'"}));
    const index_t begin = round_up(trainable_elements(), block);
    const index_t frozen = round_up(frozen_elements(), block);
    const int tensor = static_cast<int>(tensors_.size());
    units_.push_back({tensor, tensor, {begin, begin}, {frozen, frozen}});
    return Unit{static_cast<int>(units_.size()) - 1};
  }

  /// Adds a tensor to the unit added last. shape: the size of each dimension, >= 0. Throws LayoutError if there is no
  /// unit, the unit has the name, a size is negative, or the layout would have more than 2^55 elements.
  constexpr Tensor add_tensor(std::string_view name, std::initializer_list<index_t> shape, TensorOptions options = {}) {
    return add_tensor(name, std::span<const index_t>(shape.begin(), shape.size()), options);
  }

  constexpr Tensor add_tensor(std::string_view name, std::span<const index_t> shape, TensorOptions options = {}) {
    if (units_.empty() || flat_) refuse(message({"tensor '", name, "' has no unit: call add_unit first"}));
    UnitRecord& unit = units_.back();
    const int unit_index = static_cast<int>(units_.size()) - 1;
    if (options.group < 0) refuse(message({"tensor '", name, "' has a negative hyperparameter group"}));
    const index_t elements = product(name, shape);
    Range& space = options.frozen ? unit.frozen : unit.trainable;
    if (elements > most - parameter_elements() - 2 * block)
      refuse(message({"the layout has more than 2^55 elements at '", name, "'"}));
    if (!tensor_names_.add(unit_index, name))
      refuse(message({"unit '", unit_names_[unit_index], "' has two tensors named '", name, "'"}));
    const int first = static_cast<int>(shape_.size());
    for (const index_t size : shape) shape_.push_back(size);
    tensors_.push_back(
        {unit_index, first, static_cast<int>(shape_.size()), {space.end, space.end + elements}, options});
    const Tensor tensor{static_cast<int>(tensors_.size()) - 1};
    if (!options.frozen) trainable_.push_back(tensor);
    last_group_ = max(last_group_, options.group);
    space.end += elements;
    ++unit.last_tensor;
    return tensor;
  }

  /// Declares that `user` also uses the tensors of `owner` (an output layer that shares the embedding). While `user` is
  /// in use, `owner` is gathered too and its gradients stay open. Throws LayoutError unless `owner` precedes `user`.
  constexpr void tie(Unit user, Unit owner) {
    if (unit(owner).last_tensor < 0 || unit(user).last_tensor < 0 || owner.index >= user.index)
      refuse(message({"unit '", name(user), "' cannot be tied to '", name(owner),
                      "': the tensors belong to the unit that comes first in forward"}));
    if (tie_units_.find_or_add(hash_of(user, owner), [&](int i) { return is_tie(i, user, owner); }) >= 0) return;
    const int tie = static_cast<int>(ties_.size());
    ties_.push_back({user, owner, units_[to_size(user.index)].last_owner, units_[to_size(owner.index)].last_user});
    units_[to_size(user.index)].last_owner = units_[to_size(owner.index)].last_user = tie;
  }

  /// The units in order of forward use, and in order of backward use.
  constexpr layout::Handles<Unit> forward() const { return {0, static_cast<int>(units_.size()), 1}; }
  constexpr layout::Handles<Unit> backward() const { return {static_cast<int>(units_.size()) - 1, -1, -1}; }

  constexpr layout::Handles<Tensor> tensors(Unit u) const { return {unit(u).first_tensor, unit(u).last_tensor, 1}; }
  constexpr layout::Handles<Tensor> tensors() const { return {0, static_cast<int>(tensors_.size()), 1}; }

  /// The tensor's offset in the parameter buffer (and, unless it is frozen, in the gradient buffer), in elements.
  constexpr index_t offset(Tensor t) const { return (frozen(t) ? frozen_begin() : 0) + tensor(t).place.begin; }
  constexpr index_t elements(Tensor t) const { return tensor(t).place.size(); }
  constexpr std::span<const index_t> shape(Tensor t) const {
    const TensorRecord& of = tensor(t);
    return {shape_.data() + of.first_dimension, static_cast<std::size_t>(of.last_dimension - of.first_dimension)};
  }
  constexpr int group(Tensor t) const { return tensor(t).options.group; }
  /// The number of hyperparameter groups: the highest group of a tensor plus one.
  constexpr int groups() const { return last_group_ + 1; }
  constexpr bool frozen(Tensor t) const { return tensor(t).options.frozen; }
  constexpr Unit unit_of(Tensor t) const { return Unit{tensor(t).unit}; }

  constexpr std::string_view name(Unit u) const {
    static_cast<void>(unit(u));
    return unit_names_[u.index];
  }
  /// "unit.tensor", as used in messages and files.
  std::string name(Tensor t) const { return message({name(unit_of(t)), ".", tensor_names_[t.index]}); }
  /// The tensor with that full name. Throws LayoutError if there is none.
  constexpr Tensor find(std::string_view full_name) const {
    int found = -1;  // the first one, because names with dots can give several tensors the same full name
    for (std::size_t dot = 0; dot < full_name.size(); ++dot) {
      if (full_name[dot] != '.') continue;
      const int unit = unit_names_.find(0, full_name.substr(0, dot));
      const int tensor = unit < 0 ? -1 : tensor_names_.find(unit, full_name.substr(dot + 1));
      if (tensor >= 0 && (found < 0 || tensor < found)) found = tensor;
    }
    if (found < 0) throw LayoutError(message({"the layout has no tensor '", full_name, "'"}));
    return Tensor{found};
  }

  /// The name of the trainable tensor that has the element at `place`; "padding" between units. For a flat layout, of
  /// which the library does not know the tensors, also the element's index: "flat.buffer[777]".
  std::string name_at(index_t place) const {
    if (flat_) return message({"flat.buffer[", place, "]"});
    const auto begins_by_then = [&](index_t i) { return tensor(trainable_[to_size(i)]).place.begin <= place; };
    const index_t last = core::partition_point(std::ssize(trainable_), begins_by_then) - 1;
    return last < 0 || place >= tensor(trainable_[to_size(last)]).place.end ? "padding"
                                                                            : name(trainable_[to_size(last)]);
  }

  /// A unit's trainable elements in the trainable space, and its frozen elements in the frozen space.
  constexpr Range trainable(Unit u) const { return unit(u).trainable; }
  constexpr Range frozen(Unit u) const { return unit(u).frozen; }
  /// A tensor's range in its space, trainable or frozen.
  constexpr Range place(Tensor t) const { return tensor(t).place; }

  /// Elements of the two spaces, with padding between units, and of the parameter buffer that holds both.
  constexpr index_t trainable_elements() const { return units_.empty() ? 0 : units_.back().trainable.end; }
  constexpr index_t frozen_elements() const { return units_.empty() ? 0 : units_.back().frozen.end; }
  constexpr index_t frozen_begin() const { return round_up(trainable_elements(), block); }
  constexpr index_t parameter_elements() const {
    return frozen_elements() == 0 ? trainable_elements() : frozen_begin() + frozen_elements();
  }
  /// Elements of all tensors, without padding: the usual parameter count of a model.
  constexpr index_t parameters() const {
    index_t sum = 0;
    for (const Tensor t : tensors()) sum += elements(t);
    return sum;
  }

  constexpr int units() const { return static_cast<int>(units_.size()); }
  constexpr bool is_flat() const { return flat_; }

  /// Whether `user` was tied to `owner`.
  constexpr bool tied(Unit user, Unit owner) const {
    return tie_units_.find(hash_of(user, owner), [&](int i) { return is_tie(i, user, owner); }) >= 0;
  }
  /// Whether any unit was tied to `owner`.
  constexpr bool tied_to(Unit owner) const { return unit(owner).last_user >= 0; }
  /// Calls visit(owner) for each unit that `user` was tied to, and visit(user) for each unit that was tied to `owner`.
  /// The latest ties come first.
  template <class Visit>
  constexpr void for_each_owner(Unit user, Visit visit) const {
    for (int i = unit(user).last_owner; i >= 0; i = ties_[to_size(i)].owner_before) visit(ties_[to_size(i)].owner);
  }
  template <class Visit>
  constexpr void for_each_user(Unit owner, Visit visit) const {
    for (int i = unit(owner).last_user; i >= 0; i = ties_[to_size(i)].user_before) visit(ties_[to_size(i)].user);
  }
  /// The number of units that other units were tied to. A pool must hold these in addition to the unit in use.
  constexpr int tied_units() const {
    int count = 0;
    for (const Unit u : forward()) count += tied_to(u);
    return count;
  }

  /// A digest of every name, shape, group and tie, which ranks compare.
  constexpr std::uint64_t digest() const {
    core::Digest digest;
    digest.add(index_t{flat_});
    for (const Unit u : forward()) {
      digest.add(name(u));
      for (const Tensor t : tensors(u)) {
        digest.add(tensor_names_[t.index]).add(group(t)).add(index_t{frozen(t)});
        for (const index_t size : shape(t)) digest.add(size);
      }
    }
    for (const Tie& tie : ties_) digest.add(tie.user.index).add(tie.owner.index);
    return digest.value();
  }

 private:
  struct UnitRecord {
    int first_tensor, last_tensor;
    Range trainable, frozen;
    int last_owner = -1, last_user = -1;  // indices of its latest ties; -1: none
  };
  struct TensorRecord {
    int unit;
    int first_dimension, last_dimension;
    Range place;
    TensorOptions options;
  };
  struct Tie {
    Unit user, owner;
    int owner_before, user_before;  // indices of the previous ties of the same user and of the same owner; -1: none
  };

  static constexpr index_t most = index_t{1} << 55;

  [[noreturn]] static void refuse(const std::string& why) { throw LayoutError(message({"layout: ", why})); }

  constexpr const UnitRecord& unit(Unit u) const {
    if (u.index < 0 || u.index >= units()) refuse(message({"there is no unit ", u.index}));
    return units_[to_size(u.index)];
  }
  constexpr const TensorRecord& tensor(Tensor t) const {
    if (t.index < 0 || t.index >= static_cast<int>(tensors_.size())) refuse(message({"there is no tensor ", t.index}));
    return tensors_[to_size(t.index)];
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

  static constexpr std::uint64_t hash_of(Unit user, Unit owner) {
    return core::mixed_hash(static_cast<std::uint64_t>(user.index) << 32 | static_cast<std::uint32_t>(owner.index));
  }
  constexpr bool is_tie(int i, Unit user, Unit owner) const {
    return ties_[to_size(i)].user == user && ties_[to_size(i)].owner == owner;
  }

  core::List<index_t> shape_;
  core::List<UnitRecord> units_;
  core::List<TensorRecord> tensors_;
  core::List<Tie> ties_;
  core::List<Tensor> trainable_;  // in order of offset
  layout::Names unit_names_;        // by unit
  layout::Names tensor_names_;      // by tensor; a unit is a scope
  core::HashIndex tie_units_;
  int last_group_ = 0;
  bool flat_ = false;
};

}  // namespace tessera
