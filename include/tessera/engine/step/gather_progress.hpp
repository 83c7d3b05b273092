// Which weights the caller has: whether any have come in, and what was gathered since they last changed. Refuses what
// would compute with other weights. Moves nothing.
//
//     weights come in, all there ...  gradients(u)     a step that is applied     gather(u) ...  gradients(u)
//     |-- nothing is on its way ------------------|                              |-- u is there ----------
#pragma once

#include <tessera/core/error.hpp>
#include <tessera/core/list.hpp>
#include <tessera/core/math.hpp>
#include <tessera/layout/layout.hpp>
#include <tessera/layout/range_set.hpp>

namespace tessera::engine {

class GatherProgress {
 public:
  /// own_buffer: the caller handed in parameters, which are weights.
  GatherProgress(const Layout& layout, bool own_buffer)
      : layout_(&layout),
        own_buffer_(own_buffer),
        present_(own_buffer || layout.parameter_elements() == 0),
        units_(to_size(layout.units())) {
    finished();
  }

  /// The weights become others: a gradient may no longer be taken of those that were gathered.
  void change() {
    units_.fill(0);
    ranges_.clear();
    finished_ = false;
  }

  /// Weights are being brought in from outside; unless came_in() follows, there are none.
  void bring_in() { present_ = false; }
  void came_in() {
    present_ = true;
    finished();
  }

  /// Throws UsageError before any weights came in.
  void require_weights(const char* call) const {
    if (!present_)
      throw UsageError(message({call, "() before the first weights: call initialize(), or hand in {.parameters = p} at "
                                "construction"}));
  }

  /// The caller has these now.
  void gathered(Unit unit) {
    units_[to_size(unit.index)] = 1;
    if (layout_->is_flat()) ranges_.add(layout_->trainable(unit));
    finished_ = false;
  }
  void gathered(Range range) {
    ranges_.add(range);
    finished_ = false;
  }
  /// All are there, and nothing is on its way.
  void finished() {
    for (const Unit unit : layout_->forward()) gathered(unit);
    finished_ = true;
  }

  /// Throws UsageError where a gradient of these would be one of weights that the caller does not have.
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

  /// Throws UsageError unless the caller may have written weights into a buffer of its own.
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
  bool finished_ = true;  // nothing can be on its way
  core::List<char> units_;  // gathered, by unit
  layout::RangeSet ranges_;       // the same of a flat layout
};

}  // namespace tessera::engine
