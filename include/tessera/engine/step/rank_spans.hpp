// Spans of a rank's thread for a timeline: forward and backward of each unit, which the caller computes between its
// calls of the optimizer, and the parts of a step. Without a timeline every call here is one branch.
//
//     gather(a)   gather(b)   backward() gather(b)    gather(a)    ready(a)   step()
//     | forward a | forward b |          | backward b | backward a |          | norm | update 0 | update 1 |
//     | step                                                                                               |
#pragma once

#include <tessera/comm/communicator.hpp>
#include <tessera/core/clock.hpp>
#include <tessera/core/list.hpp>
#include <tessera/core/math.hpp>
#include <tessera/layout/layout.hpp>

namespace tessera::engine {

class RankSpans {
 public:
  /// For a rank without a timeline.
  RankSpans() = default;

  /// Opens the rank's tracks: one for its thread and, if queues can be timed, one per queue.
  template <class Queue>
  RankSpans(Timeline* timeline, int rank, const Layout& layout, Queue& reductions, Queue& gathers) : layout_(&layout) {
    if (!timeline) return;
    track_ = &timeline->open(rank, "compute");
    for (const Unit unit : layout.forward()) names_.push_back(timeline->keep(layout.name(unit)));
    if constexpr (TimedQueue<Queue>) {
      reductions.time_on({&timeline->open(rank, "reductions"), track_});
      gathers.time_on({&timeline->open(rank, "gathers"), track_});
    }
  }

  /// The caller computes `unit` from now on. A unit that is tied to the current one does not end the current span. A
  /// unit that does not exist is ignored here and refused elsewhere.
  void compute(Unit unit, index_t pass) {
    if (static_cast<std::size_t>(unit.index) >= names_.size()) return;  // without a timeline there are no names
    if (unit == unit_ || layout_->tied(unit_, unit)) return;
    begin(phase_, names_[to_size(unit.index)], -1, pass);
    unit_ = unit;
  }

  /// Starts the spans of backward. For a flat layout the caller makes no call when its backward starts, so the span
  /// starts here.
  void begin_backward(index_t pass) {
    if (!track_) return;
    end();
    phase_ = "backward";
    if (layout_->is_flat()) compute(Unit{0}, pass);
  }

  void end_backward() {
    if (!track_) return;
    end();
    phase_ = "forward";
  }

  /// Ends the current span and starts that of a part of the step.
  void begin(const char* kind, const char* name = "", index_t index = -1, index_t pass = -1) {
    if (!track_) return;
    end();
    const core::Clock::time_point now = core::Clock::now();
    if (step_.begin == core::Clock::time_point{}) {
      step_ = {.kind = "step"};
      track_->start(step_, now);
    }
    part_ = {kind, name, index, pass};
    track_->start(part_, now);
  }

  void end_step(index_t step) { end_step("step", step); }

  /// Ends the spans of a dropped step.
  void drop(index_t step) {
    end_backward();
    end_step("dropped step", step);
  }

 private:
  void end() noexcept {
    end(part_);
    unit_ = {-1};
  }

  void end(Span& span) noexcept {
    if (span.begin == core::Clock::time_point{}) return;
    track_->finish(span);
    span.begin = {};
  }

  void end_step(const char* kind, index_t step) {
    if (!track_) return;
    end();
    step_.kind = kind;
    step_.index = step;
    end(step_);
  }

  const Layout* layout_ = nullptr;
  Track* track_ = nullptr;
  core::List<const char*> names_;  // by unit
  const char* phase_ = "forward";
  Unit unit_{-1};  // that the caller computes
  Span part_;      // the current span; its begin is 0 if there is none
  Span step_;
};

}  // namespace tessera::engine
