#include <doctest/doctest.h>

#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iterator>
#include <string>
#include <thread>
#include <vector>

#include <tessera/bootstrap/file.hpp>
#include <tessera/core/clock.hpp>

namespace tessera {
namespace {

using rendezvous::Member;

using std::chrono::milliseconds;

// A temporary folder.
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

TEST_CASE("all ranks get the bytes of rank 0, several times at one path, and no file is left") {
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

TEST_CASE("the rendezvous works between processes") {
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

TEST_CASE("no file left by a killed run is accepted") {
  for (const bool killed_zero : {false, true}) {
    const Folder folder;
    const auto copy = [&](const char* of, const char* to) {
      if (std::filesystem::exists(folder.file() + of))
        std::filesystem::copy_file(folder.file() + of, folder.path / to,
                                   std::filesystem::copy_options::overwrite_existing);
    };
    // Copies the files of an exchange while it runs, and later restores them, as if the run had been killed then.
    std::atomic<bool> done = false;
    std::thread thief([&] {
      while (!done) {
        try {
          copy("", "kept"), copy(".rank1", "kept1"), copy(".rank2", "kept2");
        } catch (const std::filesystem::filesystem_error&) {  // removed in the meantime
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

TEST_CASE("a process of an earlier run that still waits is not accepted as a rank of this run") {
  const Folder folder;
  const auto rank_of = [&](std::uint64_t job, int rank, int timeout) {
    std::string text = rank == 0 ? "id" : "??";
    rendezvous::over_file(folder.file(), {.rank = rank, .world = 3, .timeout = milliseconds(timeout)},
                          std::as_writable_bytes(std::span(text)), job);
    CHECK(text == "id");
  };
  const auto errors = errors_of(4, [&](int r) {
    if (r == 3) return rank_of(8, 1, 1500);                                      // has waited for a long time
    std::this_thread::sleep_for(std::chrono::milliseconds(r == 1 ? 400 : 100));  // its successor comes last
    rank_of(7, r, 10000);
  });
  CHECK(errors[0] + errors[1] + errors[2] == "");
  CHECK(errors[3].find("rank 1 of 3 was not answered by rank 0") == 0);
}

TEST_CASE("ranks that do not arrive before the timeout are named, and no file is left") {
  const Folder folder;
  const auto errors = errors_of(4, [&](int r) {
    if (r == 1 || r == 2) return;
    exchanged(folder.file(), {.rank = r, .world = 4, .timeout = milliseconds(150)}, "id");
  });
  CHECK(errors[0] == "ranks 1 and 2 have not reached the file " + folder.file() + " within 0.15 s");
  CHECK(errors[3] == "rank 3 of 4 was not answered by rank 0 in the file " + folder.file() +
                         " within 0.15 s: rank 0 or another rank has not arrived");
  CHECK(folder.empty());
}

// Rank 0 and another rank must throw long before their timeout.
void check_refused(const std::string& path, int rank, const std::string& message) {
  const core::Clock::time_point begin = core::Clock::now();
  CHECK_THROWS_WITH_AS(exchanged(path, {.rank = rank, .world = 2, .timeout = milliseconds(60000)}, "id"),
                       message.c_str(), CommError);
  CHECK(core::seconds_of(core::Clock::now() - begin) < 10);
}

TEST_CASE("every rank finds a folder that cannot be used at once") {
  const Folder folder;
  const std::string no = folder.file() + "/below/it";
  check_refused(no, 0, "rendezvous: " + no + " cannot be written: No such file or directory");
  check_refused(no, 1, "rendezvous: " + no + ".rank1 cannot be written: No such file or directory");
  std::filesystem::create_directory(folder.file());
  std::filesystem::create_directory(folder.file() + ".rank1");
  check_refused(folder.file(), 0, "rendezvous: " + folder.file() + " cannot be written: Is a directory");
  check_refused(folder.file(), 1, "rendezvous: " + folder.file() + ".rank1 cannot be written: Is a directory");
  std::filesystem::create_directory(folder.file() + ".draft");
  check_refused(folder.file(), 0,
                "rendezvous: " + folder.file() + ".draft exists and cannot be removed: choose another path");
  CHECK_THROWS_AS(exchanged("", {.rank = 1, .world = 2}, "id"), OptionError);
}

std::string content(const std::filesystem::path& path) {
  std::ifstream file(path);
  return {std::istreambuf_iterator<char>(file), {}};
}

TEST_CASE("a symbolic link of another user is never written through, and its target does not change") {
  const Folder folder;
  const std::filesystem::path victim = folder.path / "victim";
  std::ofstream(victim) << "precious";
  for (const char* end : {"", ".draft", ".rank1", ".rank1.draft"})
    std::filesystem::create_symlink(victim, folder.file() + end);
  const auto errors = errors_of<Error>(2, [&](int r) {
    if (r == 1) std::this_thread::sleep_for(std::chrono::milliseconds(100));  // until rank 0 has replaced its link
    exchanged(folder.file(), {.rank = r, .world = 2, .timeout = milliseconds(r == 0 ? 10000 : 200)}, "id");
  });
  // Rank 0 is the first to read the path of rank 1, which is a link.
  CHECK(errors[0] == "rendezvous: " + folder.file() + ".rank1 is a symbolic link: remove it, or choose another path");
  CHECK(content(victim) == "precious");

  for (const char* end : {"", ".draft", ".rank1", ".rank1.draft"}) {
    std::filesystem::remove(folder.file() + end);
    if (std::string(end).ends_with("draft")) std::filesystem::create_hard_link(victim, folder.file() + end);
  }
  std::atomic<bool> right = true;
  const auto again = errors_of<Error>(2, [&](int r) {
    if (exchanged(folder.file(), {.rank = r, .world = 2, .timeout = milliseconds(10000)}, "id") != "id") right = false;
  });
  CHECK(again[0] + again[1] == "");
  CHECK(right);
  CHECK(content(victim) == "precious");
}

TEST_CASE("only a regular file of the same user with one name is read; everything else is an error at once") {
  using std::filesystem::create_hard_link, std::filesystem::create_symlink;
  for (const int rank : {0, 1}) {
    // Rank 1 reads rank 0's file, and rank 0 reads rank 1's.
    const auto refused = [&](const std::string& why, const auto& make) {
      const Folder folder;
      const std::string path = folder.file() + (rank == 0 ? ".rank1" : "");
      make(path);
      check_refused(folder.file(), rank, "rendezvous: " + path + " " + why);
    };
    refused("is not a regular file: remove it, or choose another path",
            [](const std::string& path) { REQUIRE(mkfifo(path.c_str(), 0600) == 0); });
    refused("is not a regular file: remove it, or choose another path",
            [](const std::string& path) { std::filesystem::create_directory(path); });
    refused("is a symbolic link: remove it, or choose another path",
            [](const std::string& path) { create_symlink("/dev/zero", path); });
    refused("has another name too (a hard link): choose a path in a folder of your own", [](const std::string& path) {
      std::ofstream(path + ".other") << "text";
      create_hard_link(path + ".other", path);
    });
    if (geteuid() == 0)  // only root can change a file's owner
      refused("belongs to user 12345, not to this one, 0: choose a path in a folder of your own",
              [](const std::string& path) {
                std::ofstream file(path);
                REQUIRE(chown(path.c_str(), 12345, 12345) == 0);
              });
  }
}

TEST_CASE("a file of another size belongs to another run and is not read, however large it is") {
  const Folder folder;
  for (const char* end : {"", ".rank1"}) {
    std::ofstream(folder.file() + end) << "t";
    std::filesystem::resize_file(folder.file() + end, std::uintmax_t{1} << 40);  // a sparse file, which takes no space
  }
  CHECK_THROWS_WITH_AS(exchanged(folder.file(), {.rank = 1, .world = 2, .timeout = milliseconds(100)}, "id"),
                       doctest::Contains("rank 1 of 2 was not answered by rank 0 in the file"), CommError);
  std::ofstream(folder.file() + ".rank1") << "t";
  std::filesystem::resize_file(folder.file() + ".rank1", std::uintmax_t{1} << 40);
  const auto errors = errors_of<Error>(2, [&](int r) {
    if (r == 1) std::this_thread::sleep_for(std::chrono::milliseconds(60));
    CHECK(exchanged(folder.file(), {.rank = r, .world = 2, .timeout = milliseconds(10000)}, "id") == "id");
  });
  CHECK(errors[0] + errors[1] == "");
  CHECK(folder.empty());
}

TEST_CASE("only the owner can read the files") {
  const Folder folder;
  rendezvous::file::write(folder.file(), "id");
  CHECK(std::filesystem::status(folder.file()).permissions() ==
        (std::filesystem::perms::owner_read | std::filesystem::perms::owner_write));
}

TEST_CASE("ranks that arrived at different times and left are named in the error") {
  const Folder folder;
  const auto errors = errors_of(3, [&](int r) {
    if (r == 2) std::this_thread::sleep_for(std::chrono::milliseconds(600));
    exchanged(folder.file(), {.rank = r, .world = 3, .timeout = milliseconds(r == 0 ? 1500 : 300)}, "id");
  });
  CHECK(errors[0].find("ranks 1 and 2 have reached the file " + folder.file() + " and left again") == 0);
  CHECK(folder.empty());
}

TEST_CASE("a world of one rank needs no file") {
  CHECK(exchanged("/no/such/folder/id", {.rank = 0, .world = 1}, "id") == "id");
}

}  // namespace
}  // namespace tessera
