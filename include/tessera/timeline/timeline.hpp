// What ran when: spans of time on tracks, a few of them a rank. Memory is taken when a track is opened; afterwards the
// newest spans replace the oldest, so that a run of any length may be watched and its end is there to be read.
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

/// What happened from begin to end. kind: "forward", "wait", "reduce_scatter", ...: what a picture gives a colour. name
/// and index: of what; pass: in which. Both texts are literals or kept by the timeline.
struct Span {
  const char* kind = "";
  const char* name = "";
  index_t index = -1;
  index_t pass = -1;
  core::Clock::time_point begin{};
  core::Clock::time_point end{};
};

/// What a profiler is told while it happens, on the thread concerned: a span has begun, and the one that began last has
/// ended. By default nothing (timeline/nvtx.cuh tells NVTX).
struct LiveRanges {
  void (*begin)(const Span& span) = nullptr;
  void (*end)() = nullptr;
};

/// Spans of one line of a picture, in the order in which they ended. Written by one thread at a time, and read when
/// nobody writes.
class Track {
 public:
  Track(int rank, std::string name, index_t room, LiveRanges live = {})
      : rank_(rank), name_(std::move(name)), spans_(to_size(room)), live_(live) {}

  int rank() const noexcept { return rank_; }
  const std::string& name() const noexcept { return name_; }

  /// In place of the oldest if there is no room.
  void add(const Span& span) noexcept { spans_[to_size(count_++ % room())] = span; }

  /// A span that the calling thread is in from `now` until the matching finish(), which adds it. They nest.
  void start(Span& span, core::Clock::time_point now = core::Clock::now()) {
    span.begin = now;
    if (live_.begin) live_.begin(span);
  }
  void finish(Span& span) noexcept {
    span.end = core::Clock::now();
    add(span);
    if (live_.end) live_.end();
  }

  /// Those that are left, the oldest first.
  index_t size() const noexcept { return min(count_, room()); }
  const Span& operator[](index_t i) const noexcept { return spans_[to_size((count_ - size() + i) % room())]; }
  /// Those that had to make room.
  index_t lost() const noexcept { return count_ - size(); }

 private:
  index_t room() const noexcept { return static_cast<index_t>(spans_.size()); }

  int rank_;
  std::string name_;
  std::vector<Span> spans_;
  LiveRanges live_;
  index_t count_ = 0;
};

/// A span as long as this object lives. Without a track it does not look at the clock: one branch is all that it costs.
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

/// Where a queue of collectives writes what it did for a rank, and how long the rank's thread waited for it.
struct QueueTracks {
  Track* work = nullptr;
  Track* waits = nullptr;
};

/// The tracks of all ranks of a process: Options{.timeline = &timeline}. Outlives the optimizers that write on it.
class Timeline {
 public:
  /// spans: how many of its newest a track keeps, 48 bytes each. Throws OptionError if there are none.
  /// live: told of the spans of the ranks' own threads.
  explicit Timeline(index_t spans = index_t{1} << 14, LiveRanges live = {}) : room_(spans), live_(live) {
    if (spans < 1) throw OptionError(message({"timeline: a track keeps at least 1 span, not ", spans}));
  }
  Timeline(const Timeline&) = delete;
  Timeline& operator=(const Timeline&) = delete;

  /// A new track, below those of the rank that are there. Any thread may call. Throws std::bad_alloc.
  Track& open(int rank, std::string_view name) {
    const auto track = std::make_shared<Track>(rank, std::string(name), room_, live_);
    const std::scoped_lock lock(mutex_);
    auto at = tracks_.end();
    while (at != tracks_.begin() && at[-1]->rank() > rank) --at;
    tracks_.insert(at, track);
    return *track;
  }

  /// The text, for as long as the timeline lives. Any thread may call.
  const char* keep(std::string_view text) {
    const std::scoped_lock lock(mutex_);
    texts_.push_back(std::make_shared<std::string>(text));
    return texts_.back()->c_str();
  }

  /// By rank, and as they were opened.
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
