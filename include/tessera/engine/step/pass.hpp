// One micro-batch's backward, from the first gradient to the last bucket's departure.
#pragma once

#include <span>
#include <string>
#include <utility>

#include <tessera/engine/memory/views.hpp>

namespace tessera {

/// Made by Sharded::backward(). It ends when every unit is ready; destroyed before that (by an exception in the
/// caller's backward), it drops the step's passes so far: nothing of them is applied, and the next one starts clean.
/// Ranks that go on learn of it by CommError and start clean too. Must not outlive the optimizer.
template <class Optimizer>
class BackwardPass {
 public:
  BackwardPass(BackwardPass&& other) noexcept
      : optimizer_(std::exchange(other.optimizer_, nullptr)), number_(other.number_) {}
  BackwardPass& operator=(BackwardPass&&) = delete;
  ~BackwardPass() {
    if (open()) optimizer_->drop_step();
  }

  /// The unit's gradients, zeroed at the first call in this pass, for the caller to add into until ready(unit).
  /// Blocks while the memory is still being sent. Throws UsageError after ready, outside the pass, or if the unit was
  /// neither gathered nor waited for by finish() since the last update.
  auto gradients(Unit unit) const {
    require_open("gradients", unit);
    Optimizer& of = *optimizer_;
    of.progress_.require_unready(unit);
    of.weights_.require_gathered(unit);
    of.progress_.at(unit);
    return of.guarded([&] {
      using Gradient = typename Optimizer::Gradient;
      Gradient* const room = of.reduce_.open(unit, of.progress_.clears(unit));
      of.progress_.set_zeroed(unit);
      return UnitView<Gradient>(of.layout(), unit, room, nullptr);
    });
  }

  /// Says that the unit's gradients are complete. A bucket whose units are all ready departs; backward goes on.
  /// A rank without a micro-batch in this pass calls it without gradients(unit), and it then blocks as that would. Else it
  /// enqueues. At stages 2 and 3 over a communicator without ordered sums it first waits, from the second pass of a step
  /// on, until the pass before has reduced the same bucket. Throws UsageError on the second call for a unit, or
  /// outside the pass, and CommError where that reduction failed.
  void ready(Unit unit) const {
    require_open("ready", unit);
    Optimizer& of = *optimizer_;
    of.progress_.mark(unit);
    if (!of.progress_.has_micro_batch()) of.guarded([&] { of.reduce_.open_idle(unit); });
    of.send_complete();
  }

  /// The same for gradients that another stream of the device writes, beside the executor's: they are complete when it
  /// has done what it was given so far. That it begins to write no earlier than gradients(unit) allows is said by
  /// executor.fork(stream).
  template <class Stream>
  void ready(Unit unit, const Stream& producer) const {
    require_open("ready", unit);
    optimizer_->reduce_.join(producer);
    ready(unit);
  }

  /// The same for elements [begin, end) of a flat layout's buffer, in any order, each once. The buffer was zeroed by
  /// Sharded::backward().
  void ready(index_t begin, index_t end) const {
    if (begin == end) return;
    if (!open()) throw UsageError(message({"ready(", begin, ", ", end, ") outside a pass: ", closed}));
    optimizer_->weights_.require_gathered(Range{begin, end});
    optimizer_->progress_.mark(Range{begin, end});
    optimizer_->send_complete();
  }

  /// Instead of gradients(unit) and ready(unit): this micro-batch gives the unit no gradient. A unit that none of a
  /// step's micro-batches on any rank gives one keeps its weights and state as they are, while other units' bias
  /// corrections go on counting steps; else this one counts as zeros in the mean. Enqueues. Throws UsageError as ready.
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
