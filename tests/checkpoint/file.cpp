#include <doctest/doctest.h>

#include <filesystem>
#include <string>

#include <tessera/checkpoint/file.hpp>

#include "scratch.hpp"

namespace tessera::checkpoint {
namespace {

using doctest::Contains;
using testing::content;
using testing::Scratch;

std::span<const std::byte> bytes_of(std::string_view text) { return std::as_bytes(std::span(text)); }

TEST_CASE("a file has what was appended and what was written over it, and replaces an earlier file") {
  const Scratch scratch;
  testing::write(scratch / "f", "something longer than what follows");
  FileWriter file(scratch / "f");
  file.write(bytes_of("........"));
  file.write(bytes_of(" data"));
  CHECK(file.bytes() == 13);
  file.write_at(0, bytes_of("8 header"));
  CHECK(file.bytes() == 13);
  file.sync_and_close();
  CHECK(content(scratch / "f") == "8 header data");
}

TEST_CASE("a file is read at any offset, and what is beyond its end is refused") {
  const Scratch scratch;
  write_file(scratch / "f", "0123456789");
  const FileReader file(scratch / "f");
  CHECK(file.bytes() == 10);
  std::string three(3, ' ');
  file.read(7, std::as_writable_bytes(std::span(three)));
  CHECK(three == "789");
  CHECK_THROWS_WITH_AS(file.read(8, std::as_writable_bytes(std::span(three))),
                       Contains("/f: ends at byte 10: the file was cut off"), CheckpointError);
  CHECK(read_file(scratch / "f", 10) == "0123456789");
  CHECK_THROWS_WITH_AS(read_file(scratch / "f", 9), Contains("has 10 bytes, more than the 9"), CheckpointError);
}

TEST_CASE("errors name the path and the system's reason") {
  const Scratch scratch;
  CHECK_THROWS_WITH_AS(FileReader(scratch / "none"), Contains("/none: cannot open the file: No such file"),
                       CheckpointError);
  CHECK_THROWS_WITH_AS(FileWriter(scratch / "none/f"), Contains("/none/f: cannot create the file: No such file"),
                       CheckpointError);
  CHECK_THROWS_WITH_AS(sync_folder(scratch / "none"), Contains("/none: cannot open the folder"), CheckpointError);
  CHECK_THROWS_WITH_AS(rename(scratch / "a", scratch / "b"), Contains("/a: cannot be renamed to"), CheckpointError);
  CHECK_THROWS_WITH_AS(FileReader(scratch / ""), Contains("is not a regular file"), CheckpointError);
}

TEST_CASE("a full device is reported when the bytes do not fit") {
  if (!std::filesystem::exists("/dev/full")) return;
  FileWriter file("/dev/full");
  CHECK_THROWS_WITH_AS(file.write(bytes_of("x")), Contains("/dev/full: cannot write: No space left"), CheckpointError);
}

TEST_CASE("symbolic links are neither read nor written") {
  const Scratch scratch;
  write_file(scratch / "f", "text");
  std::filesystem::create_symlink(scratch / "f", scratch / "link");
  CHECK_THROWS_AS(FileReader(scratch / "link"), CheckpointError);
  CHECK_THROWS_AS(FileWriter(scratch / "link"), CheckpointError);
  CHECK(content(scratch / "f") == "text");
}

TEST_CASE("folders are created with those above them, and an existing one is accepted") {
  const Scratch scratch;
  make_folders(scratch / "a/b/c");
  make_folders(scratch / "a/b/c");
  CHECK(std::filesystem::is_directory(scratch / "a/b/c"));
  write_file(scratch / "file", "");
  CHECK_THROWS_WITH_AS(make_folders(scratch / "file"), Contains("/file: cannot create the folder: Not a directory"),
                       CheckpointError);
}

}  // namespace
}  // namespace tessera::checkpoint
