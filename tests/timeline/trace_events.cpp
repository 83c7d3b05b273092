#include <doctest/doctest.h>

#include <chrono>
#include <cstdint>
#include <cstdio>
#include <sstream>
#include <string>

#include <nlohmann/json.hpp>

#include <tessera/timeline/trace_events.hpp>

namespace tessera {
namespace {

using Json = nlohmann::json;

core::Clock::time_point at(std::int64_t nanoseconds) { return core::Clock::time_point(std::chrono::nanoseconds(nanoseconds)); }

Json written(const Timeline& timeline) {
  std::ostringstream out;
  write_trace_events(timeline, out);
  return Json::parse(out.str());
}

Json events(const Json& trace, const char* phase) {
  Json found = Json::array();
  for (const Json& event : trace["traceEvents"])
    if (event["ph"] == phase) found.push_back(event);
  return found;
}

TEST_CASE("a span is a complete event, with times in microseconds from the first span") {
  Timeline timeline;
  timeline.open(0, "compute").add({"backward", "block", -1, 8, at(5'000'000'004'000), at(5'000'000'005'001)});
  timeline.open(1, "reductions")
      .add({"reduce_scatter", "gradients of bucket", 2, 8, at(5'000'000'004'999), at(5'001'000'004'999)});
  const Json spans = events(written(timeline), "X");
  REQUIRE(spans.size() == 2);
  CHECK(spans[0] == Json::parse(R"({"ph": "X", "name": "backward: block", "cat": "backward", "pid": 0, "tid": 1,
                                    "ts": 0, "dur": 1.001, "args": {"pass": 8}})"));
  CHECK(spans[1] == Json::parse(R"({"ph": "X", "name": "reduce_scatter: gradients of bucket 2", "cat": "reduce_scatter",
                                    "pid": 1, "tid": 2, "ts": 0.999, "dur": 1000000, "args": {"pass": 8}})"));
}

TEST_CASE("ranks are processes and tracks are threads, each with its name") {
  Timeline timeline;
  for (const int rank : {1, 0})
    for (const char* name : {"compute", "gathers"}) timeline.open(rank, name);
  const Json names = events(written(timeline), "M");
  std::string all;
  for (const Json& event : names)
    all += std::to_string(event["pid"].get<int>()) + '.' + std::to_string(event["tid"].get<int>()) + ' ' +
           event["name"].get<std::string>() + " = " + event["args"]["name"].get<std::string>() + "; ";
  CHECK(all ==
        "0.1 process_name = rank 0; 0.1 thread_name = compute; 0.2 process_name = rank 0; 0.2 thread_name = gathers; "
        "1.3 process_name = rank 1; 1.3 thread_name = compute; 1.4 process_name = rank 1; 1.4 thread_name = gathers; ");
}

TEST_CASE("of spans with equal begin the longest is written first, since it encloses the others") {
  Timeline timeline;
  Track& track = timeline.open(0, "compute");
  track.add({.kind = "wait", .begin = at(1000), .end = at(2000)});
  track.add({.kind = "forward", .begin = at(1000), .end = at(3000)});
  track.add({.kind = "step", .index = 4, .begin = at(1000), .end = at(9000)});
  const Json spans = events(written(timeline), "X");
  CHECK(spans[0]["name"] == "step 4");
  CHECK(spans[1]["name"] == "forward");
  CHECK(spans[2]["name"] == "wait");
}

TEST_CASE("names may contain any characters") {
  Timeline timeline;
  const std::string name = "a \"b\" \\ \n\x01 é";
  timeline.open(0, name).add({.kind = "forward", .name = timeline.keep(name)});
  const Json trace = written(timeline);
  CHECK(events(trace, "X")[0]["name"] == "forward: " + name);
  CHECK(events(trace, "M")[1]["args"]["name"] == name);
}

TEST_CASE("an empty timeline is an empty trace") { CHECK(written(Timeline())["traceEvents"].empty()); }

TEST_CASE("a file that cannot be written is an error that names the file") {
  Timeline timeline;
  timeline.open(0, "compute").add({.kind = "forward"});
  CHECK_THROWS_WITH_AS(write_trace_events(timeline, "/no/such/folder/trace.json"),
                       doctest::Contains("/no/such/folder/trace.json"), Error);
}

}  // namespace
}  // namespace tessera
