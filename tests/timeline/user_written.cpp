// The code of docs/timeline.md.
#include <doctest/doctest.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>

#include <tessera/tessera.hpp>
#include <tessera/timeline/trace_events.hpp>

#include "page.hpp"

namespace {

using tessera::Layout;

// A folder of its own, so that the page's code can write to a relative path.
struct Folder {
  Folder() {
    std::filesystem::create_directories(here);
    std::filesystem::current_path(here);
  }
  ~Folder() {
    std::filesystem::current_path(before);
    std::filesystem::remove_all(here);
  }
  std::filesystem::path before = std::filesystem::current_path();
  std::filesystem::path here = before / "timeline_user_written";
};

Layout two_layers() {
  Layout layout;
  for (const char* name : {"first", "second"}) {
    layout.add_unit(name);
    layout.add_tensor("w", {100});
  }
  return layout;
}

template <class Optimizer>
void train(Optimizer& optimizer) {
  const Layout& layout = optimizer.layout();
  optimizer.initialize([](tessera::Tensor, std::int64_t) { return 0.0f; });
  for (const tessera::Unit u : layout.forward()) static_cast<void>(optimizer.gather(u));
  auto pass = optimizer.backward();
  for (const tessera::Unit u : layout.backward()) {
    pass.gradients(u).trainable()[0] = 1;
    pass.ready(u);
  }
  optimizer.step();
}

TEST_CASE("a run writes a file with the spans of every rank") {
  const Folder folder;
  const Layout layout = two_layers();
  const tessera::AdamW rule;
  // clang-format off
// [run]
tessera::Timeline timeline;
tessera::run_ranks(4, [&](tessera::Local& comm) {
  tessera::Sharded<tessera::AdamW, tessera::Stage2> optimizer(comm, layout, {}, rule, {.timeline = &timeline});
  train(optimizer);
});
tessera::write_trace_events(timeline, "trace.json");                 // #include <tessera/timeline/trace_events.hpp>
// [end]
  // clang-format on
  std::ifstream file("trace.json");
  const std::string written{std::istreambuf_iterator<char>(file), {}};
  for (const char* rank : {"rank 0", "rank 1", "rank 2", "rank 3"}) CHECK(written.find(rank) != std::string::npos);
  CHECK(written.find("backward: second") != std::string::npos);
}

TEST_CASE("a user can record a span on a track of their own") {
  const tessera::Self comm;
  const tessera::index_t step = 7;
  int batch = 0;
  const auto next_batch = [] { return 1; };
  tessera::Timeline timeline;
  // clang-format off
// [span]
tessera::Track& loading = timeline.open(comm.rank(), "data");
{
  const tessera::Timed timed(&loading, {.kind = "load", .index = step});
  batch = next_batch();
}
// [end]
  // clang-format on
  CHECK(batch == 1);
  REQUIRE(loading.size() == 1);
  CHECK(std::string(loading[0].kind) == "load");
  CHECK(loading[0].index == 7);
}

TEST_CASE("docs/timeline.md shows the code that is compiled here") {
  CHECK(tessera::testing::page_shows("docs/timeline.md", "tests/timeline/user_written.cpp", "run"));
  CHECK(tessera::testing::page_shows("docs/timeline.md", "tests/timeline/user_written.cpp", "span"));
}

}  // namespace
