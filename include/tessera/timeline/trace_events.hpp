// Writes a timeline as a trace-event file for Perfetto (ui.perfetto.dev) and chrome://tracing. Not in tessera.hpp.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <fstream>
#include <ostream>
#include <string>
#include <string_view>
#include <vector>

#include <tessera/core/clock.hpp>
#include <tessera/timeline/timeline.hpp>

namespace tessera {

namespace trace_events {

/// The text as a JSON string.
inline std::string json_string(std::string_view text) {
  std::string all = "\"";
  for (const char letter : text) {
    if (letter == '"' || letter == '\\') all += '\\';
    if (static_cast<unsigned char>(letter) >= 0x20) {
      all += letter;
    } else {
      char code[8];
      std::snprintf(code, sizeof code, "\\u%04x", static_cast<unsigned>(letter));
      all += code;
    }
  }
  return all + '"';
}

/// "backward: block 3", "reduce_scatter: gradients of bucket 1", "norm", "step 7".
inline std::string title(const Span& span) {
  std::string title = span.kind;
  if (span.name[0] != 0) title += message({": ", span.name});
  if (span.index >= 0) title += message({" ", span.index});
  return title;
}

/// The duration in microseconds, the unit of the format, with nanosecond resolution.
inline std::string microseconds(std::chrono::nanoseconds duration) {
  char text[32];
  std::snprintf(text, sizeof text, "%lld.%03lld", static_cast<long long>(duration.count() / 1000),
                static_cast<long long>(duration.count() % 1000));
  return text;
}

/// The order that viewers expect: by begin; of spans with equal begin, the enclosing one first.
inline std::vector<Span> in_order(const Track& track) {
  std::vector<Span> spans;
  for (index_t i = 0; i < track.size(); ++i) spans.push_back(track[i]);
  std::stable_sort(spans.begin(), spans.end(),
                   [](const Span& a, const Span& b) { return a.begin != b.begin ? a.begin < b.begin : a.end > b.end; });
  return spans;
}

}  // namespace trace_events

/// Writes the spans of all tracks. A rank is a process, and each of its tracks is a thread. Time 0 is the begin of the
/// first span. Call it when nothing writes to the timeline: after the optimizers or ranks have ended.
/// Source: "Trace Event Format", complete (X) and metadata (M) events.
inline void write_trace_events(const Timeline& timeline, std::ostream& out) {
  using namespace trace_events;
  const std::vector<const Track*> tracks = timeline.tracks();
  core::Clock::time_point first = core::Clock::time_point::max();
  for (const Track* track : tracks)
    for (index_t i = 0; i < track->size(); ++i) first = std::min(first, (*track)[i].begin);

  out << "{\"displayTimeUnit\": \"ns\", \"traceEvents\": [";
  const char* separator = "\n";
  const auto name = [&](const char* what, int rank, int thread, const std::string& text) {
    out << separator
        << message({"{\"ph\": \"M\", \"name\": \"", what, "\", \"pid\": ", rank, ", \"tid\": ", thread,
                    ", \"args\": {\"name\": ", json_string(text), "}}"});
    separator = ",\n";
  };
  int thread = 0;
  for (const Track* track : tracks) {
    const int rank = track->rank();
    name("process_name", rank, ++thread, message({"rank ", rank}));
    name("thread_name", rank, thread, track->name());
    for (const Span& span : in_order(*track)) {
      out << message({separator, "{\"ph\": \"X\", \"name\": ", json_string(title(span)),
                      ", \"cat\": ", json_string(span.kind), ", \"pid\": ", rank, ", \"tid\": ", thread,
                      ", \"ts\": ", microseconds(span.begin - first),
                      ", \"dur\": ", microseconds(span.end - span.begin), ", \"args\": {"});
      if (span.pass >= 0) out << message({"\"pass\": ", span.pass});
      out << "}}";
    }
  }
  out << "\n]}\n";
}

/// Writes the same to a file. Throws Error if the file cannot be written.
inline void write_trace_events(const Timeline& timeline, const std::string& path) {
  std::ofstream file(path);
  write_trace_events(timeline, file);
  file.close();
  if (!file) throw Error("cannot write the timeline to '" + path + "'");
}

}  // namespace tessera
