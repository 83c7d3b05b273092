// The backward of one micro-batch, from the first gradient to the launch of the last bucket.
#pragma once

#include <span>
#include <string>
#include <utility>

#include <tessera/engine/memory/views.hpp>

namespace tessera {

/// The backward of one micro-batch, made by Sharded::backward(). It ends when every unit is ready. If it is destroyed
/// before (by an exception in the caller's backward), it drops the step's passes so far, and all ranks repeat the step;
/// other ranks get CommError. Must not outlive the optimizer.
template <class Optimizer>
class BackwardPass {
 public:
  BackwardPass(BackwardPass&& other) noexcept
      : optimizer_(std::exchange(other.optimizer_, nullptr)), number_(other.number_) {}
  BackwardPass& operator=(BackwardPass&&) = delete;
  ~BackwardPass() {
    if (open()) optimizer_->drop_step();
  }

  /// The unit's gradients, zeroed at the first call in this pass. The caller adds to them until ready(unit). Blocks
  /// while an earlier reduction reads the memory. Throws UsageError after ready, outside the pass, or if neither
  /// gather(unit) nor finish() was called since the last update.
  auto gradients(Unit unit) const {
    require_open("gradients", unit);
    Optimizer& of = *optimizer_;
    of.progress_.require_unready(unit);
    of.weights_.require_gathered(unit);
    of.progress_.at(unit);
    return of.guarded([&] {
      const auto gradients = of.reduce_.open(unit, of.progress_.clears(unit));
      of.progress_.set_zeroed(unit);
      return gradients;
    });
  }

  /// Marks the unit's gradients as complete. Launches the bucket's reduction if all its units are ready, and returns.
  /// A rank without a micro-batch in this pass calls it without gradients(unit), and it then blocks as that would. At
  /// stages 2 and 3 over a communicator without ordered sums, from the second pass of a step on, it first waits for the
  /// previous pass's reduction of the bucket, and throws CommError if that failed. Throws UsageError on a second call
  /// for the unit, or outside the pass.
  void ready(Unit unit) const {
    require_open("ready", unit);
    Optimizer& of = *optimizer_;
    of.progress_.mark(unit);
    if (!of.progress_.has_micro_batch()) of.guarded([&] { of.reduce_.open_idle(unit); });
    of.send_complete();
  }

  /// The same for gradients that a stream other than the executor's writes: they are complete when the work that is now
  /// on `producer` is done. Call executor.fork(stream) after gradients(unit) so that the stream does not write earlier.
  template <class Stream>
  void ready(Unit unit, const Stream& producer) const {
    require_open("ready", unit);
    optimizer_->reduce_.join(producer);
    ready(unit);
  }

  /// The same for elements [begin, end) of a flat layout's buffer. Ranges may come in any order, each element once.
  /// Sharded::backward() zeroed the buffer.
  void ready(index_t begin, index_t end) const {
    if (begin == end) return;
    if (!open()) throw UsageError(message({"ready(", begin, ", ", end, ") outside a pass: ", closed}));
    optimizer_->weights_.require_gathered(Range{begin, end});
    optimizer_->progress_.mark(Range{begin, end});
    optimizer_->send_complete();
  }

  /// Called instead of gradients(unit) and ready(unit) if this micro-batch has no gradient for the unit. If no
  /// micro-batch of the step has one on any rank, the unit's weights and state do not change, but the step still counts
  /// in bias corrections. Otherwise this micro-batch counts as zeros in the mean. Enqueues. Throws UsageError as ready.
  void skip(Unit unit) const {
    require_open("skip", unit);
    Optimizer& of = *optimizer_;
    of.progress_.require_untouched(unit);
    of.guarded([&] {
      if (of.progress_.has_micro_batch())
        of.reduce_.open(unit, true);
      else
        of.reduce_.open_idle(unit);
    });
    of.progress_.mark_skipped(unit);
    of.send_complete();
  }

 private:
  friend Optimizer;

  BackwardPass(Optimizer& optimizer, index_t number) : optimizer_(&optimizer), number_(number) {}

  static constexpr const char* closed = "this one is complete or was dropped, call backward() for another";

  bool open() const { return optimizer_ && optimizer_->progress_.is_open(number_); }

  void require_open(const char* call, Unit unit) const {
    if (!optimizer_) throw UsageError(message({call, "() of a pass that was moved from"}));
    if (!open())
      throw UsageError(message({call, "('", optimizer_->layout().name(unit), "') outside a pass: ", closed}));
  }

  Optimizer* optimizer_;
  index_t number_;
};

}  // namespace tessera
