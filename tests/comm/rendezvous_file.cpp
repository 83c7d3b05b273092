#include <doctest/doctest.h>

#include <sys/wait.h>

#include <atomic>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <functional>
#include <string>
#include <thread>
#include <vector>

#include <tessera/comm/rendezvous_file.hpp>

namespace tessera {
namespace {

using rendezvous::Member;

Duration milliseconds(double count) { return Duration::milliseconds(count); }

// A folder of its own that is gone at the end.
struct Folder {
  std::filesystem::path path;
  Folder() {
    std::string name = (std::filesystem::temp_directory_path() / "tessera_rendezvous_XXXXXX").string();
    path = ::mkdtemp(name.data());
  }
  ~Folder() { std::filesystem::remove_all(path); }
  std::string file() const { return (path / "id").string(); }
  bool empty() const { return std::filesystem::is_empty(path); }
};

template <class Error = CommError>
std::vector<std::string> errors_of(int count, const std::function<void(int)>& f) {
  std::vector<std::string> errors(static_cast<std::size_t>(count));
  std::vector<std::thread> threads;
  for (int r = 0; r < count; ++r)
    threads.emplace_back([&, r] {
      try {
        f(r);
      } catch (const Error& error) {
        errors[static_cast<std::size_t>(r)] = error.what();
      }
    });
  for (std::thread& thread : threads) thread.join();
  return errors;
}

std::string exchanged(const std::string& path, const Member& me, const std::string& of_zero) {
  std::string text = me.rank == 0 ? of_zero : std::string(of_zero.size(), '?');
  rendezvous::over_file(path, me, std::as_writable_bytes(std::span(text)));
  return text;
}

TEST_CASE("the bytes of rank 0 come to all, time after time at one path, and no file is left") {
  for (const int last : {0, 1, 3}) {
    const Folder folder;
    std::atomic<bool> right = true;
    const auto errors = errors_of<Error>(4, [&](int r) {
      if (r == last) std::this_thread::sleep_for(std::chrono::milliseconds(40));
      for (const std::string text : {"first", "again", "third"})
        if (exchanged(folder.file(), {.rank = r, .world = 4, .timeout = milliseconds(10000)}, text) != text)
          right = false;
    });
    for (const std::string& error : errors) CHECK(error == "");
    CHECK(right);
    CHECK(folder.empty());
  }
}

TEST_CASE("ranks are processes") {
  const Folder folder;
  std::vector<pid_t> children;
  for (int r = 1; r < 3; ++r) {
    const pid_t child = fork();
    if (child == 0) {
      try {
        _exit(exchanged(folder.file(), {.rank = r, .world = 3, .timeout = milliseconds(10000)}, "id") == "id" ? 0 : 1);
      } catch (...) {
        _exit(2);
      }
    }
    children.push_back(child);
  }
  CHECK(exchanged(folder.file(), {.rank = 0, .world = 3, .timeout = milliseconds(10000)}, "id") == "id");
  for (const pid_t child : children) {
    int status = -1;
    waitpid(child, &status, 0);
    CHECK(status == 0);
  }
  CHECK(folder.empty());
}

TEST_CASE("what a run that was killed left is not taken, whichever of its files they are") {
  for (const bool killed_zero : {false, true}) {
    const Folder folder;
    const auto copy = [&](const char* of, const char* to) {
      if (std::filesystem::exists(folder.file() + of))
        std::filesystem::copy_file(folder.file() + of, folder.path / to,
                                   std::filesystem::copy_options::overwrite_existing);
    };
    // The files of an exchange on its way are kept aside, and put back as if it had been killed there.
    std::atomic<bool> done = false;
    std::thread thief([&] {
      while (!done) {
        try {
          copy("", "kept"), copy(".rank1", "kept1"), copy(".rank2", "kept2");
        } catch (const std::filesystem::filesystem_error&) {  // gone in between
        }
      }
    });
    errors_of(3,
              [&](int r) { exchanged(folder.file(), {.rank = r, .world = 3, .timeout = milliseconds(10000)}, "old"); });
    done = true;
    thief.join();
    REQUIRE(std::filesystem::exists(folder.path / "kept"));
    if (killed_zero) std::filesystem::rename(folder.path / "kept", folder.file());
    std::filesystem::rename(folder.path / "kept1", folder.file() + ".rank1");
    std::filesystem::rename(folder.path / "kept2", folder.file() + ".rank2");

    std::atomic<bool> right = true;
    const auto errors = errors_of<Error>(3, [&](int r) {
      if (r == 2 || (r == 0 && killed_zero)) std::this_thread::sleep_for(std::chrono::milliseconds(80));
      if (exchanged(folder.file(), {.rank = r, .world = 3, .timeout = milliseconds(10000)}, "new") != "new")
        right = false;
    });
    CHECK(errors[0] + errors[1] + errors[2] == "");
    CHECK(right);
  }
}

TEST_CASE("who does not come in time is named, and no file is left") {
  const Folder folder;
  const auto errors = errors_of(4, [&](int r) {
    if (r == 1 || r == 2) return;
    exchanged(folder.file(), {.rank = r, .world = 4, .timeout = milliseconds(150)}, "id");
  });
  CHECK(errors[0] == "ranks 1 and 2 have not come to the file " + folder.file() + " within 0.15 s");
  CHECK(errors[3] == "rank 3 of 4 was not answered by rank 0 in the file " + folder.file() +
                         " within 0.15 s: it has not come, or another rank has not");
  CHECK(folder.empty());
}

TEST_CASE("what cannot be a file is refused at once") {
  const Folder folder;
  CHECK_THROWS_WITH_AS(exchanged(folder.file() + "/below/it", {.rank = 1, .world = 2}, "id"),
                       doctest::Contains("/below/it.rank1 cannot be written: No such file or directory"), CommError);
  CHECK_THROWS_AS(exchanged("", {.rank = 1, .world = 2}, "id"), OptionError);
}

TEST_CASE("a world of one rank needs no file") {
  CHECK(exchanged("/no/such/folder/id", {.rank = 0, .world = 1}, "id") == "id");
}

}  // namespace
}  // namespace tessera
