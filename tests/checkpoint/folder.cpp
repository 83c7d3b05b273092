#include <doctest/doctest.h>

#include <filesystem>
#include <string>
#include <vector>

#include <tessera/checkpoint/folder.hpp>

#include "scratch.hpp"

namespace tessera::checkpoint {
namespace {

using doctest::Contains;
using testing::content;
using testing::Scratch;
using Names = std::vector<std::string>;

// What ranks do before a commit: they write and sync their files.
void write_partial(const Folder& folder, int world = 1) {
  make_folders(folder.partial());
  for (int r = 0; r < world; ++r) write_file(message({folder.partial(), "/", file_of_rank(r)}), "data");
}

std::string commit(const Folder& folder, index_t step, int keep = 2) {
  write_partial(folder);
  return folder.commit(Json{{"step", step}}, 1, step, keep);
}

TEST_CASE("the newest checkpoint is the first, and the oldest ones are removed") {
  const Scratch scratch;
  const Folder folder(scratch / "run");
  CHECK(folder.names().empty());
  CHECK(commit(folder, 10) == "step-00000010");
  commit(folder, 20);
  CHECK(folder.names() == Names{"step-00000020", "step-00000010"});
  commit(folder, 30);
  CHECK(folder.names() == Names{"step-00000030", "step-00000020"});
  CHECK(!std::filesystem::exists(folder.path_of("step-00000010")));
  CHECK(!std::filesystem::exists(folder.partial()));
  CHECK(content(folder.path_of("step-00000030/rank-00000.safetensors")) == "data");
  CHECK(read_json(folder.path_of("step-00000030/manifest.json")).at("step") == 30);
}

TEST_CASE("a second checkpoint of a step has its own name, and one of an earlier step is newer all the same") {
  const Scratch scratch;
  const Folder folder(scratch / "run");
  CHECK(commit(folder, 20, 9) == "step-00000020");
  CHECK(commit(folder, 20, 9) == "step-00000020.1");
  CHECK(commit(folder, 7, 9) == "step-00000007");
  CHECK(folder.names() == Names{"step-00000007", "step-00000020.1", "step-00000020"});
}

TEST_CASE("what an interrupted save left does not get into the next checkpoint") {
  const Scratch scratch;
  const Folder folder(scratch / "run");
  write_partial(folder, 3);                                   // on three ranks, killed before it was renamed
  make_folders(folder.path_of("step-00000005"));              // killed after it was renamed
  write_file(folder.path_of("checkpoints.next"), "half a li");  // killed before the list was replaced
  CHECK(folder.names().empty());
  CHECK(commit(folder, 5) == "step-00000005.1");
  CHECK(folder.names() == Names{"step-00000005.1"});
  CHECK(!std::filesystem::exists(folder.path_of("step-00000005.1/rank-00001.safetensors")));
}

TEST_CASE("other folders and files in the folder stay") {
  const Scratch scratch;
  const Folder folder(scratch / "run");
  make_folders(folder.path_of("step-00000001-best"));
  for (int step = 1; step < 5; ++step) commit(folder, step, 1);
  CHECK(std::filesystem::exists(folder.path_of("step-00000001-best")));
  CHECK(folder.names() == Names{"step-00000004"});
}

TEST_CASE("a damaged list is refused, and a commit then changes nothing") {
  const Scratch scratch;
  const Folder folder(scratch / "run");
  commit(folder, 1);
  testing::write(folder.path_of("checkpoints.json"), "{}");
  CHECK_THROWS_WITH_AS(folder.names(), Contains("/checkpoints.json: is damaged"), CheckpointError);
  CHECK_THROWS_AS(commit(folder, 2), CheckpointError);
  CHECK(std::filesystem::exists(folder.path_of("step-00000001")));
  CHECK(!std::filesystem::exists(folder.path_of("step-00000002")));
}

TEST_CASE("a list or a name that leaves the folder is refused") {
  const Scratch scratch;
  const Folder folder(scratch / "run");
  make_folders(scratch / "run");
  for (const char* name : {"", "..", "../other", "/etc", ".hidden", "a/b"}) {
    CHECK_THROWS_AS(folder.require_name(name), CheckpointError);
    testing::write(folder.path_of("checkpoints.json"), with_checksum(Json{{"checkpoints", {name}}}.dump()));
    CHECK_THROWS_WITH_AS(folder.names(), Contains("is not the name of a checkpoint"), CheckpointError);
  }
  CHECK_THROWS_AS(Folder(""), OptionError);
}

}  // namespace
}  // namespace tessera::checkpoint
