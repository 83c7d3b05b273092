// A rendezvous through files in a folder that all ranks can access. Files of an earlier run are never accepted, however
// it ended: each rank writes a new random number, and accepts only an answer that repeats it.
//
//     rank r    path.rank<r> = {own number, none}               = {own number, 0's number}    waits until it is removed
//     rank 0    path = {own number}  [all there] path = {own number, theirs, bytes}  [all seen] removes all files
//
// Other users may have access to the folder (/tmp): symbolic links are not followed, another user's files are not
// accepted, and a path that cannot be used is an error at once.
//
// An old number in path.rank<r> is harmless: rank r overwrites it, and rank 0 answers again.
#pragma once

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cstdio>
#include <cstring>
#include <random>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include <tessera/bootstrap/rendezvous.hpp>
#include <tessera/core/clock.hpp>

namespace tessera::rendezvous {

namespace file {

using Number = std::array<std::uint32_t, 4>;

inline Number drawn() {
  std::random_device device;
  return {device(), device(), device(), device()};
}

/// The content of rank r's own file.
struct Hello {
  std::array<char, 8> magic{'t', 'e', 's', 's', 'r', 'a', 'n', 'k'};
  std::int32_t world = 0;
  std::uint32_t bytes = 0;
  std::uint64_t job = 0;
  Number mine{};
  Number seen{};

  bool like(const Hello& other) const {
    return magic == other.magic && world == other.world && bytes == other.bytes && job == other.job;
  }
};

inline bool operator==(const Hello& a, const Hello& b) { return std::memcmp(&a, &b, sizeof a) == 0; }

[[noreturn]] inline void raise(const std::string& path, std::string_view what) {
  throw CommError(message({"rendezvous: ", path, " ", what}));
}

/// An open file.
class Opened {
 public:
  Opened(const std::string& path, int flags) noexcept
      // O_NOFOLLOW: fails for a symbolic link. O_NONBLOCK: does not wait for the other end of a FIFO.
      : handle_(::open(path.c_str(), flags | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC, 0600)) {}
  Opened(const Opened&) = delete;
  Opened& operator=(const Opened&) = delete;
  ~Opened() { close(); }

  explicit operator bool() const noexcept { return handle_ >= 0; }
  int handle() const noexcept { return handle_; }
  /// Returns false, with errno, if written data was lost.
  bool close() noexcept { return handle_ < 0 || ::close(std::exchange(handle_, -1)) == 0; }

 private:
  int handle_;
};

inline bool all_written(int handle, std::string_view text) noexcept {
  while (!text.empty()) {
    const ssize_t written = ::write(handle, text.data(), text.size());
    if (written < 0 && errno != EINTR) return false;
    if (written > 0) text.remove_prefix(static_cast<std::size_t>(written));
  }
  return true;
}

/// Writes a new file and renames it to `path`, so that other processes see all of it or none. Returns the file's owner,
/// which may differ from geteuid() on a network file system. Throws CommError.
inline uid_t write(const std::string& path, std::string_view text) {
  const std::string draft = path + ".draft";
  ::unlink(draft.c_str());  // left by a process that was killed. Removes a symbolic link, not its target
  Opened file(draft, O_WRONLY | O_CREAT | O_EXCL);
  if (!file && errno == EEXIST) raise(draft, "exists and cannot be removed: choose another path");
  if (!file) raise(path, "cannot be written: " + system_says());
  struct stat is {};
  if (::fstat(file.handle(), &is) == 0 && all_written(file.handle(), text) && file.close() &&
      ::rename(draft.c_str(), path.c_str()) == 0)
    return is.st_uid;
  const std::string why = system_says();
  ::unlink(draft.c_str());
  raise(path, "cannot be written: " + why);
}

/// The content of a file of `size` bytes; empty if the file does not exist or has another size. Throws CommError if it
/// cannot be read, is not a regular file, belongs to another user than `owner`, or has a second name (a hard link).
inline std::string read(const std::string& path, std::size_t size, uid_t owner) {
  const Opened file(path, O_RDONLY);
  if (!file) {
    if (errno == ENOENT || errno == ESTALE) return {};
    if (errno == ELOOP) raise(path, "is a symbolic link: remove it, or choose another path");
    raise(path, "cannot be read: " + system_says());
  }
  struct stat is {};
  if (::fstat(file.handle(), &is) != 0) {
    if (errno == ESTALE) return {};
    raise(path, "cannot be read: " + system_says());
  }
  if (!S_ISREG(is.st_mode)) raise(path, "is not a regular file: remove it, or choose another path");
  if (is.st_uid != owner)
    raise(path, message({"belongs to user ", static_cast<long>(is.st_uid), ", not to this one, ",
                         static_cast<long>(owner), ": choose a path in a folder of your own"}));
  if (is.st_nlink > 1) raise(path, "has another name too (a hard link): choose a path in a folder of your own");
  if (is.st_size != static_cast<off_t>(size)) return {};
  std::string text(size, '\0');
  std::size_t got = 0;
  while (got < size) {
    const ssize_t more = ::read(file.handle(), text.data() + got, size - got);
    if (more < 0 && errno == EINTR) continue;
    if (more < 0 && errno != ESTALE) raise(path, "cannot be read: " + system_says());
    if (more <= 0) return {};
    got += static_cast<std::size_t>(more);
  }
  return text;
}

template <class T>
std::string_view as_text(const T& value) {
  return {reinterpret_cast<const char*>(&value), sizeof value};
}

inline std::string of_rank(const std::string& path, int rank) { return message({path, ".rank", rank}); }

/// Removes a file at the end of its scope.
class Removed {
 public:
  explicit Removed(std::string path) : path_(std::move(path)) {}
  Removed(const Removed&) = delete;
  Removed& operator=(const Removed&) = delete;
  ~Removed() { ::unlink(path_.c_str()); }

 private:
  std::string path_;
};

inline void host(const std::string& path, const Member& me, std::span<const std::byte> bytes, std::uint64_t job) {
  const core::Clock::time_point deadline = core::deadline_after(me.timeout);
  const Hello mine{.world = me.world, .bytes = static_cast<std::uint32_t>(bytes.size()), .job = job, .mine = drawn()};
  const uid_t owner = write(path, as_text(mine));  // no answer yet, but fails at once if it cannot be written
  const Removed at_end(path);
  std::vector<Number> answered;
  std::vector<char> came(static_cast<std::size_t>(me.world));  // a rank that came may time out and leave
  while (true) {
    std::vector<Number> numbers(static_cast<std::size_t>(me.world));
    std::vector<char> here(numbers.size()), seen(numbers.size());
    numbers[0] = mine.mine;
    here[0] = seen[0] = came[0] = true;
    bool all_here = true, all_seen = true, same = answered.size() == numbers.size();
    for (std::size_t r = 1; r < numbers.size(); ++r) {
      const std::string text = read(of_rank(path, static_cast<int>(r)), sizeof(Hello), owner);
      Hello hello;
      if (!text.empty()) std::memcpy(static_cast<void*>(&hello), text.data(), sizeof hello);
      here[r] = !text.empty() && hello.like(mine);
      numbers[r] = hello.mine;
      seen[r] = here[r] && hello.seen == mine.mine;
      came[r] = came[r] || here[r];
      all_here = all_here && here[r];
      all_seen = all_seen && seen[r];
      same = same && answered[r] == numbers[r];
    }
    if (all_seen) break;
    if (all_here && !same) {
      std::string text(as_text(mine));
      for (const Number& number : numbers) text += as_text(number);
      text.append(reinterpret_cast<const char*>(bytes.data()), bytes.size());
      write(path, text);
      answered = std::move(numbers);
    }
    if (core::Clock::now() >= deadline)
      throw CommError(time_is_up(all_here ? seen : came, here, "the file " + path, me.timeout));
    std::this_thread::sleep_for(look_again);
  }
  ::unlink(path.c_str());  // first: a rank whose own file is gone may start another exchange with this path
  for (int r = 1; r < me.world; ++r) ::unlink(of_rank(path, r).c_str());
}

inline void guest(const std::string& path, const Member& me, std::span<std::byte> bytes, std::uint64_t job) {
  const core::Clock::time_point deadline = core::deadline_after(me.timeout);
  const std::string own = of_rank(path, me.rank);
  Hello mine{.world = me.world, .bytes = static_cast<std::uint32_t>(bytes.size()), .job = job, .mine = drawn()};
  const std::size_t numbers = sizeof(Hello);
  const std::size_t begin = numbers + static_cast<std::size_t>(me.world) * sizeof(Number);
  const uid_t owner = write(own, as_text(mine));
  const Removed at_end(own);
  const auto in_time = [&](const char* why) {
    if (core::Clock::now() < deadline) return std::this_thread::sleep_for(look_again);
    throw CommError(message({"rank ", me.rank, " of ", me.world, " was not answered by rank 0 in the file ", path,
                             " within ", core::seconds_of(me.timeout), " s: ", why}));
  };
  while (true) {
    const std::string text = read(path, begin + bytes.size(), owner);
    Hello host;
    Number repeated{};
    if (!text.empty()) {
      std::memcpy(static_cast<void*>(&host), text.data(), sizeof host);
      std::memcpy(&repeated, text.data() + numbers + static_cast<std::size_t>(me.rank) * sizeof(Number),
                  sizeof repeated);
    }
    if (host.like(mine) && repeated == mine.mine) {
      if (!bytes.empty()) std::memcpy(bytes.data(), text.data() + begin, bytes.size());
      mine.seen = host.mine;
      break;
    }
    in_time(text.empty() ? "rank 0 or another rank has not arrived" : "the file is of another run");
  }
  write(own, as_text(mine));
  while (!read(own, sizeof(Hello), owner).empty()) in_time("another rank has not come");
}

}  // namespace file

/// Copies rank 0's `bytes` to all ranks, whose `bytes` have the same size, through files whose names begin with `path`.
/// All ranks must have write access to the folder; no file is left. job: equal in all processes of one run; ranks of
/// another run are rejected. One run at a time may use a path, also for several exchanges in sequence. Blocks until all
/// ranks have arrived. Throws CommError that names the missing ranks or, at once, the path that cannot be used.
inline void over_file(const std::string& path, const Member& me, std::span<std::byte> bytes, std::uint64_t job = 0) {
  me.validate();
  if (path.empty()) throw OptionError("rendezvous: the path of the file is empty");
  if (me.world == 1) return;
  if (me.rank == 0)
    file::host(path, me, bytes, job);
  else
    file::guest(path, me, bytes, job);
}

}  // namespace tessera::rendezvous
