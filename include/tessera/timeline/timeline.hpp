// Records what ran when: spans of time on tracks, a few tracks per rank. Opening a track allocates its memory. New
// spans then replace the oldest, so a run of any length can be recorded, and its most recent part is available.
//
//     rank 0   forward a | forward b | backward b | backward a |  norm  | update |
//              ^ wait                              reductions: | reduce_scatter b | reduce_scatter a |
#pragma once

#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

#include <tessera/core/clock.hpp>
#include <tessera/core/error.hpp>
#include <tessera/core/math.hpp>

namespace tessera {

/// A span of time from begin to end. kind: "forward", "wait", "reduce_scatter", ...: viewers color by it. name and
/// index: the unit or bucket; pass: the pass. Both texts are literals or owned by the timeline.
struct Span {
  const char* kind = "";
  const char* name = "";
  index_t index = -1;
  index_t pass = -1;
  core::Clock::time_point begin{};
  core::Clock::time_point end{};
};

/// Callbacks for a profiler, called at once on the thread concerned: begin of a span, and end of the span that began
/// last. Default: none (timeline/nvtx.cuh: NVTX).
struct LiveRanges {
  void (*begin)(const Span& span) = nullptr;
  void (*end)() = nullptr;
};

/// The spans of one track, in the order in which they ended. One thread at a time may write; read only when no thread
/// writes.
class Track {
 public:
  Track(int rank, std::string name, index_t room, LiveRanges live = {})
      : rank_(rank), name_(std::move(name)), spans_(to_size(room)), live_(live) {}

  int rank() const noexcept { return rank_; }
  const std::string& name() const noexcept { return name_; }

  /// Replaces the oldest span if the track is full.
  void add(const Span& span) noexcept { spans_[to_size(count_++ % room())] = span; }

  /// start() begins a span on the calling thread; the matching finish() ends and adds it. Spans nest.
  void start(Span& span, core::Clock::time_point now = core::Clock::now()) {
    span.begin = now;
    if (live_.begin) live_.begin(span);
  }
  void finish(Span& span) noexcept {
    span.end = core::Clock::now();
    add(span);
    if (live_.end) live_.end();
  }

  /// The recorded spans that were not replaced, oldest first.
  index_t size() const noexcept { return min(count_, room()); }
  const Span& operator[](index_t i) const noexcept { return spans_[to_size((count_ - size() + i) % room())]; }
  /// The number of spans that were replaced.
  index_t lost() const noexcept { return count_ - size(); }

 private:
  index_t room() const noexcept { return static_cast<index_t>(spans_.size()); }

  int rank_;
  std::string name_;
  std::vector<Span> spans_;
  LiveRanges live_;
  index_t count_ = 0;
};

/// Records a span for the lifetime of this object. Without a track it costs one branch and does not read the clock.
class Timed {
 public:
  explicit Timed(Track* track, const Span& what) : track_(track), span_(what) {
    if (track_) track_->start(span_);
  }
  Timed(const Timed&) = delete;
  Timed& operator=(const Timed&) = delete;
  ~Timed() {
    if (track_) track_->finish(span_);
  }

 private:
  Track* track_;
  Span span_;
};

/// The tracks of a queue of collectives: its work for a rank, and the waits of the rank's thread for it.
struct QueueTracks {
  Track* work = nullptr;
  Track* waits = nullptr;
};

/// The tracks of all ranks of a process: Options{.timeline = &timeline}. Must outlive the optimizers that write to it.
class Timeline {
 public:
  /// spans: how many of its newest spans a track keeps, 48 bytes each. Throws OptionError if less than 1.
  /// live: callbacks for the spans of the ranks' own threads.
  explicit Timeline(index_t spans = index_t{1} << 14, LiveRanges live = {}) : room_(spans), live_(live) {
    if (spans < 1) throw OptionError(message({"timeline: a track keeps at least 1 span, not ", spans}));
  }
  Timeline(const Timeline&) = delete;
  Timeline& operator=(const Timeline&) = delete;

  /// Adds a track after the rank's existing tracks. Thread-safe. Throws std::bad_alloc.
  Track& open(int rank, std::string_view name) {
    const auto track = std::make_shared<Track>(rank, std::string(name), room_, live_);
    const std::scoped_lock lock(mutex_);
    auto at = tracks_.end();
    while (at != tracks_.begin() && at[-1]->rank() > rank) --at;
    tracks_.insert(at, track);
    return *track;
  }

  /// A copy of the text that lives as long as the timeline. Thread-safe.
  const char* keep(std::string_view text) {
    const std::scoped_lock lock(mutex_);
    texts_.push_back(std::make_shared<std::string>(text));
    return texts_.back()->c_str();
  }

  /// All tracks, ordered by rank, then in the order in which they were opened.
  std::vector<const Track*> tracks() const {
    const std::scoped_lock lock(mutex_);
    std::vector<const Track*> tracks;
    for (const auto& track : tracks_) tracks.push_back(track.get());
    return tracks;
  }

 private:
  mutable std::mutex mutex_;
  index_t room_;
  LiveRanges live_;
  std::vector<std::shared_ptr<Track>> tracks_;
  std::vector<std::shared_ptr<std::string>> texts_;
};

}  // namespace tessera
