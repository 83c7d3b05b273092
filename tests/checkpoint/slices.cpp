#include <doctest/doctest.h>

#include <numeric>
#include <string>
#include <vector>

#include <tessera/checkpoint/slices.hpp>

#include "scratch.hpp"

namespace tessera::checkpoint {
namespace {

using doctest::Contains;
using testing::content;
using testing::Scratch;

const std::vector<std::string> names{"u.w", "u.v"};

Layout layout() {
  Layout layout;
  layout.add_unit("u");
  layout.add_tensor("w", {100, 10});
  layout.add_tensor("v", {6});
  return layout;
}

std::vector<float> numbers(index_t first, index_t count) {
  std::vector<float> all(to_size(count));
  std::iota(all.begin(), all.end(), static_cast<float>(first));
  return all;
}

struct Range {
  std::string array;
  int tensor;
  index_t first, count;
};

// Element i of every array is i. Returns the checksum of the header.
std::uint64_t write(const std::string& path, const std::vector<Range>& ranges) {
  const Layout of = layout();
  SliceWriter writer(of);
  for (const Range& range : ranges) writer.add<float>(range.array, Tensor{range.tensor}, range.first, range.count);
  writer.begin(path);
  for (const Range& range : ranges) {
    const auto data = numbers(range.first, range.count);
    writer.write(std::as_bytes(std::span(data).first(data.size() / 2)));
    writer.write(std::as_bytes(std::span(data).subspan(data.size() / 2)));
  }
  return writer.end();
}

TEST_CASE("a file has a number of at least five digits, and entries the names of array, tensor and range") {
  CHECK(file_of_rank(3) == "rank-00003.safetensors");
  CHECK(file_of_rank(123456) == "rank-123456.safetensors");
  CHECK(entry_name("parameter", "a.w", 0, 10, 10) == "a.w");
  CHECK(entry_name("parameter", "a.w", 2, 3, 10) == "a.w[2:5]");
  CHECK(entry_name("exp_avg", "a.w", 0, 3, 10) == "exp_avg.a.w[0:3]");
}

TEST_CASE("whole tensors have their shape, parts have one dimension, and names are distinct") {
  const Scratch scratch;
  write(scratch / "f", {{"parameter", 0, 0, 1000}, {"parameter", 1, 2, 3}, {"parameter", 1, 2, 3}});
  const OpenFile file(scratch / "f");
  REQUIRE(file.header.entries.size() == 3);
  CHECK(file.header.entries[0] == Entry{"u.w", "F32", {100, 10}, 0, 4000});
  CHECK(file.header.entries[1] == Entry{"u.v[2:5]", "F32", {3}, 4000, 4012});
  CHECK(file.header.entries[2].name == "u.v[2:5]~");
}

TEST_CASE("any range is read from the files of all ranks") {
  const Scratch scratch;
  const std::vector<std::uint64_t> sums{
      write(scratch / file_of_rank(0), {{"parameter", 0, 0, 300}, {"exp_avg", 0, 700, 300}, {"parameter", 1, 0, 6}}),
      write(scratch / file_of_rank(1), {}),
      write(scratch / file_of_rank(2), {{"exp_avg", 0, 0, 700}, {"parameter", 0, 300, 700}})};
  SavedSlices slices(scratch / "", sums, names);
  for (const char* array : {"parameter", "exp_avg"}) {
    CHECK_NOTHROW(slices.require_whole(array, "u.w", "F32", 1000));
    for (const index_t first : {0, 1, 299, 300, 301, 999})
      for (const index_t count : {0, 1, 2, 500, 1000}) {
        if (first + count > 1000) continue;
        std::vector<float> found(to_size(count));
        slices.read(array, "u.w", first, std::span(found));
        CHECK(found == numbers(first, count));
      }
  }
}

TEST_CASE("elements that are missing, there twice or of another type are found before anything is read") {
  const Scratch scratch;
  const auto refused = [&](const std::vector<Range>& ranges, const char* why, std::string_view type = "F32") {
    const SavedSlices slices(scratch / "", {write(scratch / file_of_rank(0), ranges)}, names);
    CHECK_THROWS_WITH_AS(slices.require_whole("parameter", "u.v", type, 6), Contains(why), CheckpointError);
  };
  refused({}, "elements from 0 on of 'parameter' of tensor 'u.v' are missing or there more than once");
  refused({{"parameter", 1, 0, 2}, {"parameter", 1, 3, 3}}, "elements from 2 on");
  refused({{"parameter", 1, 0, 5}}, "elements from 5 on");
  refused({{"parameter", 1, 0, 4}, {"parameter", 1, 3, 3}}, "elements from 4 on");
  refused({{"parameter", 1, 0, 6}}, "has type F32 in the checkpoint, and BF16 in the optimizer", "BF16");
  const SavedSlices none(scratch / "", {write(scratch / file_of_rank(0), {})}, names);
  CHECK_NOTHROW(none.require_whole("parameter", "u.w", "F32", 0));
}

TEST_CASE("a damaged block is reported with its file, its bytes and the first tensor in it") {
  const Scratch scratch;
  const std::string path = scratch / file_of_rank(0);
  const std::uint64_t sum = write(path, {{"parameter", 0, 0, 1000}});
  std::string text = content(path);
  text[text.size() - 1] ^= 1;
  testing::write(path, text);
  SavedSlices slices(scratch / "", {sum}, names);
  std::vector<float> found(1);
  CHECK_THROWS_WITH_AS(slices.read("parameter", "u.w", 0, std::span(found)),
                       Contains("/rank-00000.safetensors: is damaged: bytes "), CheckpointError);
  CHECK_THROWS_WITH_AS(slices.read("parameter", "u.w", 0, std::span(found)), Contains("(from 'u.w' on)"),
                       CheckpointError);
}

TEST_CASE("a header that is not the manifest's is refused") {
  const Scratch scratch;
  const std::uint64_t sum = write(scratch / file_of_rank(0), {{"parameter", 0, 0, 1000}});
  CHECK_THROWS_WITH_AS(SavedSlices(scratch / "", {sum + 1}, names), Contains("the checksum of its header"),
                       CheckpointError);
  CHECK_THROWS_WITH_AS(SavedSlices(scratch / "", {sum, sum}, names), Contains("/rank-00001.safetensors: cannot open"),
                       CheckpointError);
}

// A header that is well formed, but whose metadata lies.
TEST_CASE("metadata that does not describe the entries is refused") {
  const Scratch scratch;
  const auto refused = [&](const std::map<std::string, std::string>& metadata, const char* why) {
    const Header header{{{"a", "F32", {1}, 0, 4}}, metadata};
    const std::string text = header.text("f");
    testing::write(scratch / file_of_rank(0), text + "1234");
    CHECK_THROWS_WITH_AS(SavedSlices(scratch / "", {checksum(std::string_view(text).substr(8))}, names), Contains(why),
                         CheckpointError);
  };
  const std::string sums(16, '0');
  refused({}, "lacks slices or checksums");
  refused({{"slices", "parameter 0 0\n"}, {"checksums", sums + "0"}}, "lacks slices or checksums");
  for (const char* slices : {"", "parameter", "parameter 0", "parameter 0 0", "parameter 2 0\n", "parameter -1 0\n",
                             "parameter 0 x\n", "parameter 0 9999999999999999999\n", "parameter 0 0\nparameter 0 0\n"}) {
    CAPTURE(slices);
    refused({{"slices", slices}, {"checksums", sums}}, "does not describe its slices");
  }
}

}  // namespace
}  // namespace tessera::checkpoint
