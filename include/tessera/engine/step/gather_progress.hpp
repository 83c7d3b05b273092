// Which weights the caller has: whether weights were brought in, and which units were gathered since they last changed.
// Refuses calls that would compute with old weights. Does not communicate.
//
//     weights brought in  ...         gradients(u)     a step that is applied     gather(u) ...  gradients(u)
//     |-- all units are gathered -----------------|                              |-- u is gathered -------
#pragma once

#include <tessera/core/error.hpp>
#include <tessera/core/list.hpp>
#include <tessera/core/math.hpp>
#include <tessera/layout/layout.hpp>
#include <tessera/layout/range_set.hpp>

namespace tessera::engine {

class GatherProgress {
 public:
  /// own_buffer: the caller passed a parameter buffer, which holds the first weights.
  GatherProgress(const Layout& layout, bool own_buffer)
      : layout_(&layout),
        own_buffer_(own_buffer),
        present_(own_buffer || layout.parameter_elements() == 0),
        units_(to_size(layout.units())) {
    finished();
  }

  /// Called when the weights change. Gradients of the weights gathered before are no longer accepted.
  void change() {
    units_.fill(0);
    ranges_.clear();
    finished_ = false;
  }

  /// Called before weights are brought in. If came_in() does not follow, there are no weights.
  void bring_in() { present_ = false; }
  void came_in() {
    present_ = true;
    finished();
  }

  /// Throws UsageError if no weights were brought in.
  void require_weights(const char* call) const {
    if (!present_)
      throw UsageError(message({call, "() before the first weights: call initialize(), or hand in {.parameters = p} at "
                                "construction"}));
  }

  /// Records that the caller has these weights.
  void gathered(Unit unit) {
    units_[to_size(unit.index)] = 1;
    if (layout_->is_flat()) ranges_.add(layout_->trainable(unit));
    finished_ = false;
  }
  void gathered(Range range) {
    ranges_.add(range);
    finished_ = false;
  }
  /// Records that the caller has all weights and no gather is in flight.
  void finished() {
    for (const Unit unit : layout_->forward()) gathered(unit);
    finished_ = true;
  }

  /// Throws UsageError if the caller does not have the weights that the gradient of the unit or range depends on.
  void require_gathered(Unit unit) const {
    if (layout_->trainable(unit).empty()) return;
    require_gathered(unit, unit);
    layout_->for_each_owner(unit, [&](Unit owner) { require_gathered(unit, owner); });
  }
  void require_gathered(Range range) const {
    if (!layout_->is_flat() || ranges_.contains(layout::intersect(range, layout_->trainable(Unit{0})))) return;
    const index_t first = ranges_.first_outside(max(range.begin, index_t{0}));
    throw UsageError(message({"ready(", range.begin, ", ", range.end, "): element ", first, changed, "gather(begin, end)",
                              before_forward}));
  }

  /// Throws UsageError unless the caller passed a parameter buffer and was allowed to write it.
  void require_own_weights() const {
    if (!own_buffer_)
      throw UsageError("take_parameters() without a buffer of the caller's: hand in {.parameters = p} at construction");
    if (!finished_)
      throw UsageError(
          "take_parameters(): parameters may have been on their way while the buffer was written: call finish(), then "
          "write, then call take_parameters()");
  }

 private:
  static constexpr const char* changed = " was not gathered since its weights last changed: call ";
  static constexpr const char* before_forward = " before the forward that computes with them";

  void require_gathered(Unit user, Unit unit) const {
    if (units_[to_size(unit.index)]) return;
    const auto name = layout_->name(unit);
    throw UsageError(message({"gradients('", layout_->name(user), "'): ", user == unit ? "the unit" : "its tied unit '",
                              user == unit ? "" : name, user == unit ? "" : "'", changed, "gather('", name, "')",
                              before_forward}));
  }

  const Layout* layout_;
  bool own_buffer_;
  bool present_;
  bool finished_ = true;  // no gather is in flight
  core::List<char> units_;  // per unit: whether it is gathered
  layout::RangeSet ranges_;       // of a flat layout: the gathered elements
};

}  // namespace tessera::engine
