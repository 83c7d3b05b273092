// The progress of a step: the open pass, its ready units, and the number of complete passes. Refuses calls at the wrong
// time, with a message that says what is missing. Records spans in the timeline; does not communicate.
#pragma once

#include <string>
#include <string_view>
#include <utility>

#include <tessera/core/error.hpp>
#include <tessera/core/list.hpp>
#include <tessera/core/math.hpp>
#include <tessera/engine/step/rank_spans.hpp>
#include <tessera/layout/micro_batches.hpp>
#include <tessera/layout/options.hpp>
#include <tessera/layout/readiness.hpp>

namespace tessera::engine {

class StepProgress {
 public:
  /// micro_batches: per rank and step, unless begin_step() sets another number.
  StepProgress(const Sharding& sharding, int rank, int micro_batches, RankSpans spans = {})
      : layout_(&sharding.layout()),
        rank_(rank),
        micro_batches_(micro_batches),
        leaves_{index_t{micro_batches} * sharding.world(), sharding.world()},
        readiness_(sharding),
        zeroed_(to_size(layout_->units())),
        has_gradient_(to_size(layout_->units())),
        spans_(std::move(spans)) {}

  /// The number of complete passes of this step, and of all its passes.
  int passes() const noexcept { return passes_; }
  int passes_in_step() const noexcept { return leaves_.passes(); }
  /// Whether this rank has a micro-batch in the open or next pass.
  bool has_micro_batch() const noexcept { return leaves_.has(rank_, passes_); }
  bool is_open(index_t pass) const noexcept { return open_ && pass == pass_; }
  /// The number of the pass in the tags of its collectives, the same on every rank.
  index_t tag() const noexcept { return step_ * micro_batches_ + passes_; }
  /// The number of gradients that all ranks contribute to this step.
  index_t leaves() const noexcept { return leaves_.count; }
  /// The number of micro-batches of all ranks in this step. A gradient may be the sum of several.
  index_t micro_batches() const noexcept { return leaves_.count * pass_options_.sum_of; }
  /// The number of steps that ended, applied or skipped.
  index_t steps() const noexcept { return step_; }

  /// Sets the number of steps that ended. Called between steps.
  void set_steps(index_t steps) noexcept { step_ = steps; }

  /// Tells the timeline what the rank does from now on: compute of `unit`, or a part of step().
  void at(Unit unit) { spans_.compute(unit, tag()); }
  void at(const char* part, const char* name = "", index_t index = -1) { spans_.begin(part, name, index); }

  void require_new_pass(const PassOptions& options = {}) const {
    if (open_) throw UsageError(message({"backward(): the last pass is still open: ", missing()}));
    if (passes_ == passes_in_step())
      throw UsageError(message({"backward(): all ", passes_, " passes of the step are done: call step()"}));
    if (options.sum_of < 1) throw OptionError(message({"backward(): sum_of must be at least 1, is ", options.sum_of}));
    if (!options.zero && passes_in_step() > 1)
      throw UsageError(message({"backward({.zero = false}) for one of ", passes_in_step(),
                                " passes of a step: add all micro-batches up in one, with Options::micro_batches 1"}));
    if (passes_ > 0 && options.sum_of != pass_options_.sum_of)
      throw UsageError(message({"backward(): sum_of is ", options.sum_of, ", in the step's first pass it was ",
                                pass_options_.sum_of, ": all passes of a step have the same"}));
  }

  /// Sets the number of micro-batches of this step over all ranks. A dropped step keeps the number when it restarts.
  void begin_step(index_t micro_batches) {
    require_between_steps("begin_step");
    if (micro_batches < 1 || micro_batches > planned())
      throw OptionError(message({"begin_step(", micro_batches, "): a step has from 1 to ", planned(),
                                 " micro-batches over all ", leaves_.world,
                                 " ranks (memory is planned for Options::micro_batches on each)"}));
    leaves_.count = micro_batches;
  }

  /// Opens a pass and returns its number.
  index_t begin_pass(const PassOptions& options = {}) {
    pass_options_ = options;
    readiness_.begin();
    zeroed_.fill(0);
    if (passes_ == 0) {
      has_gradient_.fill(0);
      skipped_ = false;
    }
    open_ = true;
    spans_.begin_backward(tag());
    return ++pass_;
  }

  void require_unready(Unit unit) const {
    const std::string_view name = layout_->name(unit);
    if (layout_->is_flat()) throw UsageError("gradients(unit): a flat layout's gradients are the caller's buffer");
    if (readiness_.ready(unit))
      throw UsageError(message({"gradients('", name, "'): the unit is ready already in this pass"}));
    if (!has_micro_batch())
      throw UsageError(message({"gradients('", name, "'): this rank has no micro-batch in this pass "
                                "(has_micro_batch()): call ready without them"}));
  }

  /// Whether the caller has called gradients(unit) in this pass.
  bool zeroed(Unit unit) const noexcept { return zeroed_[to_size(unit.index)] != 0; }
  /// Whether gradients(unit) must clear the gradients.
  bool clears(Unit unit) const noexcept { return pass_options_.zero && !zeroed(unit); }
  void set_zeroed(Unit unit) noexcept { zeroed_[to_size(unit.index)] = 1; }

  void mark(Unit unit) {
    const std::string_view name = layout_->name(unit);
    if (layout_->is_flat()) throw UsageError("ready(unit): a flat layout is reported by ready(begin, end)");
    if (has_micro_batch() && !zeroed(unit) && layout_->is_trainable(unit))
      throw UsageError(message({"ready('", name, "') without gradients('", name,
                                "') in this pass: ask for them first, they are zeroed for you"}));
    if (!readiness_.mark(unit)) throw UsageError(message({"ready('", name, "') a second time in this pass"}));
    if (has_micro_batch()) has_gradient_[to_size(unit.index)] = 1;
  }

  /// Throws UsageError if skip(unit) is called after gradients(unit) or ready(unit) in this pass.
  void require_untouched(Unit unit) const {
    const std::string_view name = layout_->name(unit);
    if (layout_->is_flat()) throw UsageError("skip(unit): a flat layout has one unit, whose gradients are always there");
    if (readiness_.ready(unit)) throw UsageError(message({"skip('", name, "'): the unit is ready already in this pass"}));
    if (zeroed(unit))
      throw UsageError(message({"skip('", name, "') after gradients('", name, "') in this pass: call ready instead"}));
  }
  void mark_skipped(Unit unit) {
    readiness_.mark(unit);
    skipped_ = true;
  }
  /// Whether no pass of this step had a gradient of the unit on this rank.
  bool absent(Unit unit) const noexcept {
    return (skipped_ || !leaves_.has(rank_, 0)) && has_gradient_[to_size(unit.index)] == 0;
  }

  void mark(Range range) {
    if (!layout_->is_flat())
      throw UsageError("ready(begin, end) is for flat layouts: this one has units, use ready(unit)");
    require_range("ready", range);
    if (!readiness_.mark(range))
      throw UsageError(
          message({"ready(", range.begin, ", ", range.end, "): part of it was ready already in this pass"}));
  }

  /// The next bucket to launch, or -1 (Readiness::depart()).
  int depart() { return readiness_.depart(); }

  /// Closes the pass if all buckets are launched. Returns whether it did.
  bool close_pass_if_complete() {
    if (!readiness_.complete()) return false;
    open_ = false;
    ++passes_;
    spans_.end_backward();
    return true;
  }

  void require_complete() const {
    if (open_) throw UsageError(message({"step() in the middle of a pass: ", missing()}));
    if (passes_ != passes_in_step())
      throw UsageError(
          message({"step() after ", passes_, " of ", passes_in_step(), " passes",
                   dropped_because_.empty() ? "" : "; a pass was dropped and the step with it: ", dropped_because_}));
  }

  void require_between_steps(const char* call) const {
    if (open_ || passes_ > 0) throw UsageError(message({call, "() in the middle of a step"}));
  }

  void require_range(const char* call, Range range) const {
    if (range.begin < 0 || range.begin > range.end || range.end > layout_->trainable_elements())
      throw UsageError(message({call, "(", range.begin, ", ", range.end, ") is not within the buffer's ",
                                layout_->trainable_elements(), " elements"}));
  }

  /// Returns the number of the step that has ended.
  index_t end_step() noexcept {
    spans_.end_step(step_);
    passes_ = 0;
    leaves_.count = planned();
    dropped_because_.clear();
    return step_++;
  }

  /// Restarts the step from its first pass, because ranks do not know how far the others are and can only agree on the
  /// start of a step.
  void drop() {
    spans_.drop(step_);
    if (open_) dropped_because_ = missing();
    open_ = false;
    passes_ = 0;
  }

 private:
  index_t planned() const noexcept { return index_t{micro_batches_} * leaves_.world; }

  std::string missing() const {
    if (layout_->is_flat()) return "not all of its range was ready";
    return message({"unit '", layout_->name(readiness_.first_missing()), "' was never ready"});
  }

  const Layout* layout_;
  int rank_;
  int micro_batches_;  // per rank, for which memory is planned
  layout::MicroBatches leaves_;
  layout::Readiness readiness_;
  core::List<char> zeroed_;        // by unit, in this pass
  core::List<char> has_gradient_;  // by unit, in some pass of this step
  bool skipped_ = false;     // a unit was skipped in some pass of this step
  index_t pass_ = 0;   // number of the last opened pass
  index_t step_ = 0;
  int passes_ = 0;
  PassOptions pass_options_;
  bool open_ = false;
  std::string dropped_because_;
  RankSpans spans_;
};

}  // namespace tessera::engine
