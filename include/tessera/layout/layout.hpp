// Tensors grouped into units in order of forward use, and their offsets in the flat space. Only integers and names: no
// memory, no ranks. Usable in constant expressions.
//
//     flat space   | unit 0 |.| unit 1 |.|   unit 2   | . | frozen of unit 0 |.| frozen of unit 2 |
//     two rules    | rule 0 of unit 0 |.| rule 0 of unit 2 | . | rule 1 of unit 0 |.| ... | . | frozen of unit 0 | ...
//
// Tensors of one rule are one space, and frozen tensors are the last one. An offset counts from the first element of
// the first space. In its spaces a unit starts at a multiple of `block` elements. The gradient buffer has no frozen
// space.
#pragma once

#include <array>
#include <initializer_list>
#include <limits>
#include <span>
#include <string>
#include <string_view>

#include <tessera/core/digest.hpp>
#include <tessera/core/error.hpp>
#include <tessera/core/list.hpp>
#include <tessera/core/math.hpp>
#include <tessera/layout/names.hpp>
#include <tessera/layout/range.hpp>
#include <tessera/layout/tensor.hpp>
#include <tessera/layout/ties.hpp>

namespace tessera {

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
    const int tensor = static_cast<int>(tensors_.size());
    UnitRecord unit{.first_tensor = tensor, .last_tensor = tensor};
    if (!units_.empty())
      for (std::size_t s = 0; s < unit.spaces.size(); ++s) {
        const index_t begin = round_up(units_.back().spaces[s].end, block);
        unit.spaces[s] = {begin, begin};
      }
    units_.push_back(unit);
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
    if (options.rule < 0 || options.rule >= layout::most_rules)
      refuse(message({"tensor '", name, "' has rule ", options.rule, ", which is not one of 0 to ",
                      layout::most_rules - 1}));
    const index_t elements = product(name, shape);
    Range& space = unit.spaces[options.frozen ? frozen_record : to_size(options.rule)];
    if (elements > most - parameter_elements() - (layout::most_rules + 1) * block)
      refuse(message({"the layout has more than 2^55 elements at '", name, "'"}));
    if (!tensor_names_.add(unit_index, name))
      refuse(message({"unit '", unit_names_[unit_index], "' has two tensors named '", name, "'"}));
    const int first = static_cast<int>(shape_.size());
    for (const index_t size : shape) shape_.push_back(size);
    tensors_.push_back(
        {unit_index, first, static_cast<int>(shape_.size()), {space.end, space.end + elements}, options});
    const Tensor tensor{static_cast<int>(tensors_.size()) - 1};
    if (!options.frozen) {
      for (rules_ = max(rules_, options.rule + 1); std::ssize(of_rule_) < rules_;) of_rule_.push_back({});
      of_rule_[to_size(options.rule)].push_back(tensor);
    }
    int& last_group = last_group_[to_size(options.rule)];
    last_group = max(last_group, options.group);
    space.end += elements;
    ++unit.last_tensor;
    return tensor;
  }

  /// Declares that `user` also uses the tensors of `owner` (an output layer that shares the embedding). While `user` is
  /// in use, `owner` is gathered too and its gradients stay open. Throws LayoutError unless `owner` precedes `user`.
  constexpr void tie(Unit user, Unit owner) {
    if (number(owner) >= number(user))
      refuse(message({"unit '", name(user), "' cannot be tied to '", name(owner),
                      "': the tensors belong to the unit that comes first in forward"}));
    ties_.add(number(user), number(owner));
  }

  /// The units in order of forward use, and in order of backward use.
  constexpr layout::Handles<Unit> forward() const { return {0, static_cast<int>(units_.size()), 1}; }
  constexpr layout::Handles<Unit> backward() const { return {static_cast<int>(units_.size()) - 1, -1, -1}; }

  constexpr layout::Handles<Tensor> tensors(Unit u) const { return {unit(u).first_tensor, unit(u).last_tensor, 1}; }
  constexpr layout::Handles<Tensor> tensors() const { return {0, static_cast<int>(tensors_.size()), 1}; }

  /// The tensor's offset in the parameter buffer (and, unless it is frozen, in the gradient buffer), in elements.
  constexpr index_t offset(Tensor t) const { return space_begin(space(t)) + tensor(t).place.begin; }
  /// The elements of the tensor, from its offset.
  constexpr Range place(Tensor t) const { return moved(tensor(t).place, space_begin(space(t))); }
  constexpr index_t elements(Tensor t) const { return tensor(t).place.size(); }
  constexpr std::span<const index_t> shape(Tensor t) const {
    const TensorRecord& of = tensor(t);
    return {shape_.data() + of.first_dimension, static_cast<std::size_t>(of.last_dimension - of.first_dimension)};
  }
  constexpr int rule(Tensor t) const { return tensor(t).options.rule; }
  constexpr int group(Tensor t) const { return tensor(t).options.group; }
  /// The number of hyperparameter groups of a rule: the highest group of its tensors plus one.
  constexpr int groups(int rule = 0) const { return last_group_[to_size(rule)] + 1; }
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

  /// The name of the trainable tensor that has the element at offset `place`; "padding" between units. For a flat
  /// layout, of which the library does not know the tensors, also the element's index: "flat.buffer[777]".
  std::string name_at(index_t place) const {
    if (flat_) return message({"flat.buffer[", place, "]"});
    if (of_rule_.empty()) return "padding";
    int rule = rules() - 1;
    while (rule > 0 && place < space_begin(rule)) --rule;
    const core::List<Tensor>& tensors = of_rule_[to_size(rule)];
    const index_t in_space = place - space_begin(rule);
    const auto begins_by_then = [&](index_t i) { return tensor(tensors[to_size(i)]).place.begin <= in_space; };
    const index_t last = core::partition_point(std::ssize(tensors), begins_by_then) - 1;
    return last < 0 || in_space >= tensor(tensors[to_size(last)]).place.end ? "padding" : name(tensors[to_size(last)]);
  }

  /// The number of rules: the highest rule of a trainable tensor plus one, at least 1.
  constexpr int rules() const { return rules_; }
  /// The number of spaces: one per rule, and that of the frozen tensors, which is the last.
  constexpr int spaces() const { return rules_ + 1; }
  constexpr int frozen_space() const { return rules_; }
  /// The space of a tensor: its rule, or frozen_space().
  constexpr int space(Tensor t) const { return frozen(t) ? frozen_space() : rule(t); }
  /// The elements of a unit in a space.
  constexpr Range range(Unit u, int space) const { return moved(unit(u).spaces[record(space)], space_begin(space)); }
  /// The same for the space of a rule, and for the frozen space.
  constexpr Range trainable(Unit u, int rule = 0) const { return range(u, rule); }
  constexpr Range frozen(Unit u) const { return range(u, frozen_space()); }
  /// Whether the unit has trainable elements.
  constexpr bool is_trainable(Unit u) const {
    for (int s = 0; s < rules(); ++s)
      if (!unit(u).spaces[to_size(s)].empty()) return true;
    return false;
  }

  /// The offset of a space in the parameter buffer. space_begin(spaces()): the end of the last one, rounded up.
  constexpr index_t space_begin(int space) const {
    index_t begin = 0;
    for (int s = 0; s < space; ++s) begin += round_up(space_elements(s), block);
    return begin;
  }
  /// The elements of a space, with padding between units.
  constexpr index_t space_elements(int space) const {
    return units_.empty() ? 0 : units_.back().spaces[record(space)].end;
  }
  /// Elements of all spaces of rules, of the frozen space, and of the parameter buffer that holds them.
  constexpr index_t trainable_elements() const { return space_begin(rules_ - 1) + space_elements(rules_ - 1); }
  constexpr index_t frozen_elements() const { return space_elements(frozen_space()); }
  constexpr index_t frozen_begin() const { return space_begin(frozen_space()); }
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
  constexpr bool tied(Unit user, Unit owner) const { return ties_.tied(user.index, owner.index); }
  /// Whether any unit was tied to `owner`.
  constexpr bool tied_to(Unit owner) const { return ties_.has_users(number(owner)); }
  /// Calls visit(owner) for each unit that `user` was tied to, and visit(user) for each unit that was tied to `owner`.
  /// The latest ties come first.
  template <class Visit>
  constexpr void for_each_owner(Unit user, Visit visit) const {
    ties_.for_each_owner(number(user), [&](int owner) { visit(Unit{owner}); });
  }
  template <class Visit>
  constexpr void for_each_user(Unit owner, Visit visit) const {
    ties_.for_each_user(number(owner), [&](int user) { visit(Unit{user}); });
  }
  /// The number of units that other units were tied to. A pool must hold these in addition to the unit in use.
  constexpr int tied_units() const {
    int count = 0;
    for (const Unit u : forward()) count += tied_to(u);
    return count;
  }

  /// A digest of every name, shape, rule, group and tie, which ranks compare.
  constexpr std::uint64_t digest() const {
    core::Digest digest;
    digest.add(index_t{flat_});
    for (const Unit u : forward()) {
      digest.add(name(u));
      for (const Tensor t : tensors(u)) {
        digest.add(tensor_names_[t.index]).add(rule(t)).add(group(t)).add(index_t{frozen(t)});
        for (const index_t size : shape(t)) digest.add(size);
      }
    }
    ties_.for_each([&](int user, int owner) { digest.add(user).add(owner); });
    return digest.value();
  }

 private:
  static constexpr std::size_t frozen_record = layout::most_rules;

  struct UnitRecord {
    int first_tensor, last_tensor;
    std::array<Range, layout::most_rules + 1> spaces{};  // in elements of each space; frozen_record: the frozen ones
  };
  struct TensorRecord {
    int unit;
    int first_dimension, last_dimension;
    Range place;  // in its space
    TensorOptions options;
  };
  static constexpr index_t most = index_t{1} << 55;

  [[noreturn]] static void refuse(const std::string& why) { throw LayoutError(message({"layout: ", why})); }

  constexpr std::size_t record(int space) const { return space == frozen_space() ? frozen_record : to_size(space); }
  static constexpr Range moved(Range range, index_t by) { return {range.begin + by, range.end + by}; }

  constexpr const UnitRecord& unit(Unit u) const {
    if (u.index < 0 || u.index >= units()) refuse(message({"there is no unit ", u.index}));
    return units_[to_size(u.index)];
  }
  constexpr int number(Unit u) const { return static_cast<void>(unit(u)), u.index; }
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

  core::List<index_t> shape_;
  core::List<UnitRecord> units_;
  core::List<TensorRecord> tensors_;
  core::List<core::List<Tensor>> of_rule_;  // by rule: its trainable tensors, in order of offset
  layout::Names unit_names_;        // by unit
  layout::Names tensor_names_;      // by tensor; a unit is a scope
  layout::Ties ties_;
  std::array<int, layout::most_rules> last_group_{};  // by rule
  int rules_ = 1;
  bool flat_ = false;
};

}  // namespace tessera
