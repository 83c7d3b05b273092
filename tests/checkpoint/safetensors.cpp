#include <doctest/doctest.h>

#include <string>

#include <tessera/checkpoint/safetensors.hpp>

#include "scratch.hpp"

namespace tessera::checkpoint {
namespace {

using doctest::Contains;
using testing::Scratch;

Header sample() {
  return {{{"a.w", "F32", {2, 3}, 0, 24}, {"scalar", "BF16", {}, 24, 26}, {"empty", "U8", {0, 7}, 26, 26}},
          {{"format", "pt"}, {"with \"quotes\"", "and \n"}}};
}

Header parsed(const std::string& json, index_t data_bytes = 0) { return parse_header("f", json, data_bytes); }

TEST_CASE("a header is read as it was written, and its data begins at a multiple of 8") {
  const std::string text = sample().text("f");
  CHECK(text.size() % 8 == 0);
  const Header header = parsed(text.substr(8), 26);
  CHECK(header.entries == sample().entries);
  CHECK(header.metadata == sample().metadata);
  const Scratch scratch;
  testing::write(scratch / "f", text + std::string(26, 'x'));
  const OpenFile file(scratch / "f");
  CHECK(file.header.entries == sample().entries);
  CHECK(file.data_begin == static_cast<index_t>(text.size()));
}

TEST_CASE("entries are sorted by their data, whatever their order in the header") {
  const Header header = parsed(R"({"b":{"dtype":"U8","shape":[1],"data_offsets":[4,5]},)"
                               R"("a":{"shape":[1],"data_offsets":[0,4],"dtype":"I32"}})", 5);
  REQUIRE(header.entries.size() == 2);
  CHECK(header.entries[0].name == "a");
}

void refused(const std::string& json, const char* why, index_t data_bytes = 4) {
  CAPTURE(json);
  CHECK_THROWS_WITH_AS(parsed(json, data_bytes), Contains(why), CheckpointError);
  CHECK_THROWS_WITH_AS(parsed(json, data_bytes), Contains("f: "), CheckpointError);
}

TEST_CASE("what the format does not have is refused with the reason") {
  const auto entry = [](const std::string& fields) { return "{\"a\":{" + fields + "}}"; };
  const std::string dtype = "\"dtype\":\"F32\"", shape = "\"shape\":[1]", offsets = "\"data_offsets\":[0,4]";
  const std::string good = dtype + "," + shape + "," + offsets;
  CHECK_NOTHROW(parsed(entry(good), 4));
  CHECK_NOTHROW(parsed("{}   ", 0));
  refused("", "does not begin with '{'");
  refused(" {}", "does not begin with '{'");
  refused("{", "is not JSON");
  refused("{}x", "is not JSON");
  refused("{}", "the tensors end at byte 0 of the data, the file at 4");
  refused(entry(good) + entry(good), "is not JSON");
  refused("{\"a\":{" + good + "},\"a\":{" + good + "}}", "two tensors named 'a'");
  refused(entry(dtype + "," + shape), "of tensor 'a'");
  refused(entry(good + ",\"more\":1"), "unknown or repeated field 'more'");
  refused(entry(good + "," + dtype), "unknown or repeated field 'dtype'");
  refused(entry("\"dtype\":\"F33\"," + shape + "," + offsets), "unknown type 'F33'");
  refused(entry("\"dtype\":4," + shape + "," + offsets), "a number where none belongs");
  refused(entry(dtype + ",\"shape\":[-1]," + offsets), "negative number");
  refused(entry(dtype + ",\"shape\":[1.5]," + offsets), "no integer");
  refused(entry(dtype + ",\"shape\":[[1]]," + offsets), "list where none belongs");
  refused(entry(dtype + ",\"shape\":{}," + offsets), "nested too deeply");
  refused(entry(dtype + ",\"shape\":[99999999999999999999]," + offsets), "no integer");
  refused(entry(dtype + ",\"shape\":[9223372036854775807]," + offsets), "too large");
  refused(entry(dtype + ",\"shape\":[2]," + offsets), "not those of its shape and type");
  refused(entry(dtype + ",\"shape\":[4611686018427387904,4]," + offsets), "not those of its shape and type");
  refused(entry(dtype + "," + shape + ",\"data_offsets\":[0]"), "needs two data_offsets");
  refused(entry(dtype + "," + shape + ",\"data_offsets\":[0,4,8]"), "needs two data_offsets");
  refused(entry(dtype + "," + shape + ",\"data_offsets\":[4,0]"), "must follow each other");
  refused(entry(dtype + "," + shape + ",\"data_offsets\":[1,5]"), "must follow each other", 5);
  refused(entry(good), "must follow each other from byte 0 and end by 3", 3);
  refused("{\"a\":3}", "a number where none belongs");
  refused("{\"a\":null}", "has a null");
  refused("{\"__metadata__\":{\"a\":1}}", "a number where none belongs");
  refused("{\"__metadata__\":{\"a\":\"1\",\"a\":\"2\"}}", "twice in its metadata");
  refused("{\"__metadata__\":{\"a\":{}}}", "nested too deeply");
}

TEST_CASE("a file whose header does not fit into it is refused before anything is allocated for it") {
  const Scratch scratch;
  testing::write(scratch / "short", "1234567");
  CHECK_THROWS_WITH_AS(OpenFile(scratch / "short"), Contains("has 7 bytes, which is no header"), CheckpointError);
  for (const std::string& length : {std::string(8, '\xff'), std::string("\x03\0\0\0\0\0\0\0", 8),
                                    std::string("\0\0\0\0\0\0\0\x01", 8)}) {
    testing::write(scratch / "f", length + "{}");
    CHECK_THROWS_WITH_AS(OpenFile(scratch / "f"), Contains("more than the file or the limit"), CheckpointError);
  }
}

TEST_CASE("types have the names and sizes of the format") {
  CHECK(data_type<float>() == "F32");
  CHECK(data_type<bfloat16>() == "BF16");
  CHECK(data_type<float16>() == "F16");
  CHECK(bytes_of_type("BF16") == 2);
  CHECK(!bytes_of_type("bf16"));
}

}  // namespace
}  // namespace tessera::checkpoint
