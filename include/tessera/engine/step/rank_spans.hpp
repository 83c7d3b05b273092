// What a rank's thread is at, for a timeline: forward and backward of each unit, which the caller computes between its
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
  /// Of a rank that keeps none.
  RankSpans() = default;

  /// Opens the rank's tracks: its thread's, and one a queue, which lie empty if the queue cannot be timed.
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

  /// The caller is at `unit` from now on. One that is tied to it is looked at beside it. One that does not exist is
  /// refused elsewhere.
  void compute(Unit unit, index_t pass) {
    if (static_cast<std::size_t>(unit.index) >= names_.size()) return;  // and there is no name without a timeline
    if (unit == unit_ || layout_->tied(unit_, unit)) return;
    begin(phase_, names_[to_size(unit.index)], -1, pass);
    unit_ = unit;
  }

  /// Nobody can tell when the backward of a flat layout, whose caller asks for nothing, begins: it is taken to be now.
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

  /// From now on this part of the step is done, and no more what was before.
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

  /// The step begins again.
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
  core::List<const char*> names_;  // of units
  const char* phase_ = "forward";
  Unit unit_{-1};  // the caller's
  Span part_;      // that has begun, if it has
  Span step_;
};

}  // namespace tessera::engine
