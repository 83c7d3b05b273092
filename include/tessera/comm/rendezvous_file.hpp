// A rendezvous in a folder that all ranks see. What an earlier run left there is never taken, however it ended: each
// rank writes a number that it has just drawn, and believes no answer that does not repeat it.
//
//     rank r      path.rank<r> = {my number, nothing seen}                    = {my number, 0's number}   waits until
//     gone rank 0                     [all there] -> path = {0's number, theirs, bytes}        [all seen] -> removes
//     everything
//
// A number of an earlier run in path.rank<r> does no harm: rank r overwrites it, and rank 0 answers anew.
#pragma once

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cstdio>
#include <cstring>
#include <random>

#include <tessera/comm/rendezvous.hpp>

namespace tessera::rendezvous {

namespace file {

using Number = std::array<std::uint32_t, 4>;

inline Number drawn() {
  std::random_device device;
  return {device(), device(), device(), device()};
}

/// Of rank r, in a file of its own.
struct Hello {
  std::array<char, 8> magic{'t', 'e', 's', 's', 'r', 'a', 'n', 'k'};
  std::int32_t world = 0;
  std::uint32_t bytes = 0;
  Number mine{};
  Number seen{};

  bool like(const Hello& other) const { return magic == other.magic && world == other.world && bytes == other.bytes; }
};

inline bool operator==(const Hello& a, const Hello& b) { return std::memcmp(&a, &b, sizeof a) == 0; }

/// The whole file; empty if there is none. Throws CommError if it is there and cannot be read.
inline std::string read(const std::string& path) {
  const int file = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (file < 0) {
    if (errno == ENOENT || errno == ESTALE) return {};
    throw CommError(message({"rendezvous: ", path, " cannot be read: ", system_says()}));
  }
  std::string text;
  std::array<char, 4096> piece;
  ssize_t got;
  while ((got = ::read(file, piece.data(), piece.size())) > 0) text.append(piece.data(), static_cast<std::size_t>(got));
  ::close(file);
  return text;
}

/// All of it or nothing is seen by others. Throws CommError.
inline void write(const std::string& path, std::string_view text) {
  const std::string draft = path + ".draft";
  const int file = ::open(draft.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
  bool good = file >= 0 && ::write(file, text.data(), text.size()) == static_cast<ssize_t>(text.size());
  int error = errno;
  if (file >= 0 && ::close(file) != 0 && good) good = false, error = errno;
  if (good && ::rename(draft.c_str(), path.c_str()) != 0) good = false, error = errno;
  if (!good) throw CommError(message({"rendezvous: ", path, " cannot be written: ", system_says(error)}));
}

template <class T>
std::string_view as_text(const T& value) {
  return {reinterpret_cast<const char*>(&value), sizeof value};
}

inline std::string of_rank(const std::string& path, int rank) { return message({path, ".rank", rank}); }

/// Removes a file however its scope is left.
class Removed {
 public:
  explicit Removed(std::string path) : path_(std::move(path)) {}
  Removed(const Removed&) = delete;
  Removed& operator=(const Removed&) = delete;
  ~Removed() { ::unlink(path_.c_str()); }

 private:
  std::string path_;
};

inline void host(const std::string& path, const Member& me, std::span<const std::byte> bytes) {
  const Removed at_end(path);
  const Moment deadline = Moment::now() + me.timeout;
  const Hello mine{.world = me.world, .bytes = static_cast<std::uint32_t>(bytes.size()), .mine = drawn()};
  List<Number> answered;
  List<bool> came(static_cast<std::size_t>(me.world));  // some may have waited long enough, and left
  while (true) {
    List<Number> numbers(static_cast<std::size_t>(me.world));
    List<bool> here(numbers.size()), seen(numbers.size());
    numbers[0] = mine.mine;
    here[0] = seen[0] = came[0] = true;
    bool all_here = true, all_seen = true, same = answered.size() == numbers.size();
    for (std::size_t r = 1; r < numbers.size(); ++r) {
      const std::string text = read(of_rank(path, static_cast<int>(r)));
      Hello hello;
      if (text.size() == sizeof hello) std::memcpy(static_cast<void*>(&hello), text.data(), sizeof hello);
      here[r] = text.size() == sizeof hello && hello.like(mine);
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
    if (Moment::now() >= deadline)
      throw CommError(message(
          {missing(all_here ? seen : came), " not come to the file ", path, " within ", me.timeout.seconds(), " s"}));
    sleep_until(Moment::now() + look_again);
  }
  ::unlink(path.c_str());  // before the ranks' own: one that sees its file gone may begin another exchange here
  for (int r = 1; r < me.world; ++r) ::unlink(of_rank(path, r).c_str());
}

inline void guest(const std::string& path, const Member& me, std::span<std::byte> bytes) {
  const Moment deadline = Moment::now() + me.timeout;
  const std::string own = of_rank(path, me.rank);
  Hello mine{.world = me.world, .bytes = static_cast<std::uint32_t>(bytes.size()), .mine = drawn()};
  const std::size_t numbers = sizeof(Hello);
  const std::size_t begin = numbers + static_cast<std::size_t>(me.world) * sizeof(Number);
  write(own, as_text(mine));
  const auto in_time = [&](const char* why) {
    if (Moment::now() < deadline) return sleep_until(Moment::now() + look_again);
    ::unlink(own.c_str());
    throw CommError(message({"rank ", me.rank, " of ", me.world, " was not answered by rank 0 in the file ", path,
                             " within ", me.timeout.seconds(), " s: ", why}));
  };
  while (true) {
    const std::string text = read(path);
    Hello host;
    Number repeated{};
    if (text.size() == begin + bytes.size()) {
      std::memcpy(static_cast<void*>(&host), text.data(), sizeof host);
      std::memcpy(&repeated, text.data() + numbers + static_cast<std::size_t>(me.rank) * sizeof(Number),
                  sizeof repeated);
    }
    if (host.like(mine) && repeated == mine.mine) {
      if (!bytes.empty()) std::memcpy(bytes.data(), text.data() + begin, bytes.size());
      mine.seen = host.mine;
      break;
    }
    in_time(text.empty() ? "it has not come, or another rank has not" : "what is there is of another run");
  }
  write(own, as_text(mine));
  while (!read(own).empty()) in_time("another rank has not come");
}

}  // namespace file

/// Brings rank 0's `bytes` to all others, whose `bytes` have the same size, through files that begin with `path`, in a
/// folder that all ranks may write; none is left. One run at a time uses a path; exchanges of it in a row may. Blocks
/// until all ranks have come. Throws CommError that says who is missing, or that the folder cannot be used.
inline void over_file(const std::string& path, const Member& me, std::span<std::byte> bytes) {
  me.check();
  if (path.empty()) throw OptionError("rendezvous: the path of the file is empty");
  if (me.world == 1) return;
  if (me.rank == 0)
    file::host(path, me, bytes);
  else
    file::guest(path, me, bytes);
}

}  // namespace tessera::rendezvous
