#include <doctest/doctest.h>

#include <cstring>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include <tessera/checkpoint/export.hpp>

#include "scratch.hpp"
#include "training.hpp"

namespace tessera {
namespace {

using checkpoint::Entry;
using checkpoint::OpenFile;
using doctest::Contains;
using testing::content;
using testing::ragged_layout;
using testing::Scratch;

// The values of all tensors of a file, by name.
template <class T>
std::map<std::string, std::vector<float>> values_of(const std::string& path) {
  const OpenFile file(path);
  std::map<std::string, std::vector<float>> found;
  for (const Entry& entry : file.header.entries) {
    CHECK(entry.dtype == checkpoint::data_type<T>());
    std::vector<T> values(to_size((entry.end - entry.begin) / static_cast<index_t>(sizeof(T))));
    file.file.read(file.data_begin + entry.begin, std::as_writable_bytes(std::span(values)));
    for (const T value : values) found[entry.name].push_back(static_cast<float>(value));
    found[entry.name];
  }
  return found;
}

float value(Tensor t, index_t i) { return static_cast<float>(100 * t.index + i % 64); }  // exact in bfloat16 up to 256

template <class Stage, class Precision>
void write(int world, const std::string& path, const ExportOptions& options = {}) {
  run_ranks(world, [&](Local& comm) {
    Sharded<AdamW, Stage, Precision> optimizer(comm, ragged_layout(), {}, std::vector<AdamW>(2), {.bucket_bytes = 700});
    optimizer.initialize(value);
    export_parameters(comm, optimizer, path, options);
  });
}

void check_values(const std::map<std::string, std::vector<float>>& found, float (*rounded)(float)) {
  const Layout layout = ragged_layout();
  CHECK(static_cast<int>(found.size()) == layout.tensors().size());
  for (const Tensor t : layout.tensors()) {
    const std::vector<float>& values = found.at(layout.name(t));
    REQUIRE(std::ssize(values) == layout.elements(t));
    for (index_t i = 0; i < layout.elements(t); ++i) CHECK(values[to_size(i)] == rounded(value(t, i)));
  }
}

TEST_CASE("one file has whole tensors in the order of the layout, frozen and empty ones too, at every stage") {
  const Scratch scratch;
  write<Stage3, Bf16>(3, scratch / "sharded.safetensors");
  write<Stage0, Bf16>(1, scratch / "whole.safetensors");
  CHECK(content(scratch / "sharded.safetensors") == content(scratch / "whole.safetensors"));
  check_values(values_of<bfloat16>(scratch / "sharded.safetensors"),
               [](float x) { return static_cast<float>(bfloat16(x)); });
  const OpenFile file(scratch / "whole.safetensors");
  CHECK(file.header.metadata.at("format") == "pt");
  CHECK(file.header.entries.front() == Entry{"embedding.table", "BF16", {13, 7}, 0, 182});
}

TEST_CASE("above a size there are several files and an index, and names are the caller's") {
  const Scratch scratch;
  const auto rename = [](const std::string& name) { return "model." + name; };
  write<Stage3, Fp32>(2, scratch / "model.safetensors", {.rename = rename, .file_bytes = 2000});
  CHECK(!std::filesystem::exists(scratch / "model.safetensors"));
  const auto index = nlohmann::json::parse(content(scratch / "model.safetensors.index.json"));
  CHECK(index.at("metadata").at("total_size") == 4 * ragged_layout().parameters());
  std::map<std::string, std::vector<float>> all;
  for (const auto& [name, file] : index.at("weight_map").items()) {
    CHECK(file.get<std::string>().starts_with("model-0000"));
    const auto found = values_of<float>(scratch / file.get<std::string>());
    CHECK(found.contains(name));
    all[name.substr(6)] = found.at(name);
  }
  check_values(all, [](float x) { return x; });
  for (const auto& entry : std::filesystem::directory_iterator(scratch / ""))
    CHECK(entry.path().extension() != ".partial");
}

TEST_CASE("an export in another number of files replaces the earlier one") {
  const Scratch scratch;
  write<Stage1, Fp32>(1, scratch / "m.safetensors");
  write<Stage1, Fp32>(1, scratch / "m.safetensors", {.file_bytes = 2000});
  CHECK(!std::filesystem::exists(scratch / "m.safetensors"));
  CHECK(std::filesystem::exists(scratch / "m.safetensors.index.json"));
  write<Stage1, Fp32>(1, scratch / "m.safetensors");
  CHECK(std::filesystem::exists(scratch / "m.safetensors"));
  CHECK(!std::filesystem::exists(scratch / "m.safetensors.index.json"));
}

TEST_CASE("two tensors with one name, and a folder that does not exist, are refused on all ranks") {
  const Scratch scratch;
  run_ranks(2, [&](Local& comm) {
    Sharded<AdamW, Stage1, Fp32> optimizer(comm, ragged_layout(), {}, std::vector<AdamW>(2));
    optimizer.initialize(value);
    const auto same = [](const std::string&) { return std::string("w"); };
    CHECK_THROWS_WITH_AS(export_parameters(comm, optimizer, scratch / "f", {.rename = same}),
                         Contains("tensor 'body.weight' would get the name 'w'"), CheckpointError);
    CHECK_THROWS_AS(export_parameters(comm, optimizer, scratch / "none/f"), Error);
    for (const char* name : {"", "model.json"})
      CHECK_THROWS_WITH_AS(export_parameters(comm, optimizer, scratch / name),
                           Contains("is not the name of a safetensors file"), CheckpointError);
  });
  CHECK(std::filesystem::is_empty(scratch / ""));
}

}  // namespace
}  // namespace tessera
