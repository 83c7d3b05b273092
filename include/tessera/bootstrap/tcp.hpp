// A rendezvous over TCP. Rank 0 listens, each other rank connects and sends its rank, and rank 0 answers when all have
// arrived, in any order, also before rank 0. Bytes are sent unencrypted and in host byte order: for a cluster's
// network.
//
//     rank 0      listen ......... [all here] -> answer to each
//     rank r      connect, hello .............   bytes, or why not
#pragma once

#include <algorithm>
#include <array>
#include <chrono>
#include <cstring>
#include <thread>
#include <vector>

#include <tessera/bootstrap/file_limit.hpp>
#include <tessera/bootstrap/rendezvous.hpp>
#include <tessera/bootstrap/socket.hpp>
#include <tessera/core/clock.hpp>

namespace tessera::rendezvous {

/// The address of rank 0. job: equal in all processes of one run (Launch::job); ranks of another job are rejected.
struct TcpPlace {
  std::string host;
  int port = 0;
  std::uint64_t job = 0;

  std::string text() const { return message({host, ":", port}); }
};

namespace tcp {

// Two different values, so that a process which gets its own hello back does not accept it as an answer.
inline constexpr std::array<char, 8> hello_magic{'t', 'e', 's', 's', 'h', 'e', 'l', '2'};
inline constexpr std::array<char, 8> answer_magic{'t', 'e', 's', 's', 'a', 'n', 's', '2'};

/// The time limit for a new connection to send its hello.
inline constexpr std::chrono::nanoseconds introduction = std::chrono::seconds(3);

/// How long rank 0 retries a port that is in use: a connection of another process may hold it for a short time.
inline constexpr std::chrono::nanoseconds port_patience = std::chrono::seconds(1);

struct Hello {
  std::array<char, 8> magic = hello_magic;
  std::uint64_t job = 0;
  std::int32_t rank = 0;
  std::int32_t world = 0;
  std::uint64_t bytes = 0;
};

enum class Verdict : std::uint32_t { good, disagreement, failure, another_job };

/// The header of an answer. The bytes follow, or the text of an error.
struct Answer {
  std::array<char, 8> magic = answer_magic;
  Verdict verdict = Verdict::good;
  std::uint32_t size = 0;
};

inline constexpr const char* what_differs =
    "the world, the port, the user, TESSERA_JOB or what Slurm or torchrun set differs (docs/cuda.md, Starting "
    "processes)";

[[noreturn]] inline void raise(Verdict verdict, const std::string& why) {
  if (verdict == Verdict::disagreement) throw AgreementError(why);
  throw CommError(why);
}

/// A connection that rank 0 accepted.
struct Guest {
  bootstrap::Socket socket{};
  core::Clock::time_point until{};  // the deadline for its hello
  std::array<std::byte, sizeof(Hello)> said{};
  int size = 0;

  bool introduced() const noexcept { return size == static_cast<int>(said.size()); }
  Hello hello() const noexcept {
    Hello hello;
    std::memcpy(static_cast<void*>(&hello), said.data(), said.size());
    return hello;
  }
};

class Host {
 public:
  Host(const TcpPlace& place, const Member& me, std::span<const std::byte> bytes)
      : place_(place),
        me_(me),
        bytes_(bytes),
        deadline_(core::deadline_after(me.timeout)),
        came_(static_cast<std::size_t>(me.world)) {
    const core::Clock::time_point enough = core::Clock::now() + port_patience;
    while (!(listening_ = bootstrap::Socket::listening(place.port))) {
      if (errno == EADDRINUSE && core::Clock::now() < std::min(enough, deadline_)) {
        std::this_thread::sleep_for(look_again);
        continue;
      }
      throw CommError(message({"rank 0 cannot listen on port ", place.port, ": ", system_says(),
                               ": choose another port, the same on every rank"}));
    }
  }

  void serve() {
    came_[0] = true;
    while (true) {
      std::vector<char> arrived(static_cast<std::size_t>(me_.world));
      arrived[0] = true;
      int here = 1;
      for (const Guest& guest : guests_)
        if (guest.introduced()) check(guest.hello(), arrived, here);
      if (here == me_.world) break;
      if (core::Clock::now() >= deadline_)
        refuse(Verdict::failure, time_is_up(came_, arrived, "rank 0 at " + place_.text(), me_.timeout) +
                                     (others_came_ ? message({"; a rank of another job connected: ", what_differs})
                                                   : ""));
      if (core::Clock::now() >= full_until_) refuse(Verdict::failure, no_file_for_more(here));
      wait();
    }
    for (const Guest& guest : guests_)
      if (guest.introduced()) answer(guest, Verdict::good, bytes_);
  }

 private:
  // Checks the hello of a rank of this job. A mismatch is an error on all ranks.
  void check(const Hello& hello, std::vector<char>& arrived, int& here) {
    if (hello.world != me_.world || hello.rank < 1 || hello.rank >= me_.world)
      refuse(Verdict::disagreement,
             message({"rank 0 was started as one of ", me_.world, ", rank ", hello.rank, " as one of ", hello.world}));
    if (hello.bytes != bytes_.size())
      refuse(Verdict::disagreement, message({"rank 0 has ", bytes_.size(), " bytes for all, rank ", hello.rank,
                                             " expects ", hello.bytes, ": run the same program on every rank"}));
    if (arrived[static_cast<std::size_t>(hello.rank)])
      refuse(Verdict::disagreement, message({"two processes say that they are rank ", hello.rank, " of ", me_.world}));
    arrived[static_cast<std::size_t>(hello.rank)] = came_[static_cast<std::size_t>(hello.rank)] = true;
    ++here;
  }

  [[noreturn]] void refuse(Verdict verdict, const std::string& why) {
    for (const Guest& guest : guests_) answer(guest, verdict, std::as_bytes(std::span(why)));
    raise(verdict, why);
  }

  // Ignores failures: a rank that cannot be reached has left and reports its own error.
  void answer(const Guest& guest, Verdict verdict, std::span<const std::byte> with) const noexcept {
    const Answer answer{.verdict = verdict, .size = static_cast<std::uint32_t>(with.size())};
    const core::Clock::time_point soon = core::Clock::now() + std::chrono::seconds(1);
    if (guest.socket.send(std::as_bytes(std::span(&answer, 1)), soon)) guest.socket.send(with, soon);
  }

  // Handles existing connections first, so that a rank that left is removed before its successor sends a hello.
  void wait() {
    std::vector<pollfd> polled(guests_.size() + 1);
    core::Clock::time_point until = deadline_;
    for (std::size_t i = 0; i < guests_.size(); ++i) {
      polled[i] = {guests_[i].socket.handle(), POLLIN, 0};
      if (!guests_[i].introduced()) until = std::min(until, guests_[i].until);
    }
    polled.back() = {listening_.handle(), POLLIN, 0};
    if (full()) {  // cannot accept a connection now: try again later
      polled.back().fd = -1;
      until = std::min(until, core::Clock::now() + look_again);
    }
    ::poll(polled.data(), polled.size(), bootstrap::Socket::milliseconds_to(until));
    const core::Clock::time_point now = core::Clock::now();
    std::vector<Guest> stay;
    for (std::size_t i = 0; i < guests_.size(); ++i)
      if ((polled[i].revents == 0 || hear(guests_[i])) && (guests_[i].introduced() || now < guests_[i].until))
        stay.push_back(std::move(guests_[i]));
    guests_ = std::move(stay);
    let_in();
  }

  // Accepts connections. At the limit of open files, raises the limit, then waits for files to be closed.
  void let_in() {
    int error;
    do {
      while (bootstrap::Socket next = listening_.accepted())
        guests_.push_back({.socket = std::move(next), .until = core::Clock::now() + introduction});
      error = errno;
    } while (error == EMFILE && limit_.raise());
    full_for_ = error == EMFILE || error == ENFILE || error == ENOBUFS || error == ENOMEM ? error : 0;
    if (!full_for_)
      full_until_ = core::Clock::time_point::max();
    else if (full_until_ == core::Clock::time_point::max())
      full_until_ = core::Clock::now() + introduction + look_again;  // by then connections without a hello are closed
  }

  bool full() const noexcept { return full_for_ != 0; }

  std::string no_file_for_more(int here) const {
    const std::string why = message({"rank 0 at ", place_.text(), " has ", here, " of ", me_.world,
                                     " ranks and can accept no more connections: ", system_says(full_for_)});
    if (full_for_ != EMFILE) return why;
    return message({why, " (EMFILE, the limit is ", limit_.count(),
                    "): raise the hard limit of open files (ulimit -Hn) above the number of ranks"});
  }

  // Returns false if the connection is closed or not from this job.
  bool hear(Guest& guest) noexcept {
    if (!guest.introduced()) {
      const int got = guest.socket.receive_some(std::span(guest.said).subspan(static_cast<std::size_t>(guest.size)));
      if (got < 0) return false;
      guest.size += got;
      if (!guest.introduced()) return true;
    }
    if (guest.hello().magic != hello_magic) return false;
    if (guest.hello().job != place_.job) {
      others_came_ = true;
      answer(guest, Verdict::another_job, {});
      return false;
    }
    std::byte more;
    return guest.socket.receive_some({&more, 1}) == 0;
  }

  const TcpPlace& place_;
  Member me_;
  std::span<const std::byte> bytes_;
  core::Clock::time_point deadline_;
  std::vector<char> came_;    // a rank that came may time out and leave
  bool others_came_ = false;  // ranks of another job
  bootstrap::FileLimit limit_;
  bootstrap::Socket listening_;
  std::vector<Guest> guests_;
  int full_for_ = 0;  // the errno value of the failed accept, or 0
  core::Clock::time_point full_until_ = core::Clock::time_point::max();
};

/// Returns false, with the reason in `why`, if another try may succeed.
inline bool ask(const TcpPlace& place, const Member& me, std::span<std::byte> bytes, core::Clock::time_point deadline,
                std::string& why) {
  const bootstrap::Socket socket = bootstrap::Socket::connected(place.host, place.port, deadline, why);
  if (!socket) return false;
  why = "the process that listens there does not answer, or is another program";
  const Hello hello{.job = place.job, .rank = me.rank, .world = me.world, .bytes = bytes.size()};
  Answer answer;
  const std::span<Answer, 1> room(&answer, 1);
  if (!socket.send(std::as_bytes(std::span(&hello, 1)), deadline) ||
      !socket.receive(std::as_writable_bytes(room), deadline) || answer.magic != answer_magic)
    return false;
  if (answer.verdict == Verdict::another_job) {
    why = message({"the process that listens there is of another job: ", what_differs});
    return false;
  }
  if (answer.verdict == Verdict::good) return answer.size == bytes.size() && socket.receive(bytes, deadline);
  std::string text(min<std::size_t>(answer.size, 4096), ' ');
  if (!socket.receive(std::as_writable_bytes(std::span(text)), deadline)) return false;
  raise(answer.verdict, text);
}

}  // namespace tcp

/// Copies rank 0's `bytes` to all ranks, whose `bytes` have the same size. Blocks until all ranks have arrived. Throws,
/// on every rank that arrived: CommError that names the missing ranks; AgreementError if two processes have the same
/// rank, or world sizes differ. Several exchanges in sequence may use the same place.
inline void over_tcp(const TcpPlace& place, const Member& me, std::span<std::byte> bytes) {
  me.validate();
  if (place.port < 1 || place.port > 65535)
    throw OptionError(message({"rendezvous: there is no port ", place.port, ": 1 to 65535"}));
  if (me.world == 1) return;
  if (me.rank == 0) return tcp::Host(place, me, bytes).serve();
  const core::Clock::time_point deadline = core::deadline_after(me.timeout);
  std::string why;
  while (true) {
    const core::Clock::time_point begin = core::Clock::now();
    std::string reason;
    if (tcp::ask(place, me, bytes, deadline, reason)) return;
    const bool over = core::Clock::now() >= deadline;
    // A last try shorter than a second may fail only because of the deadline: report the reason of the try before.
    if (why.empty() || !over || deadline - begin > std::chrono::seconds(1)) why = reason;
    if (over)
      throw CommError(message({"rank ", me.rank, " of ", me.world, " found no rank 0 at ", place.text(), " within ",
                               core::seconds_of(me.timeout), " s: ", why}));
    std::this_thread::sleep_for(look_again);
  }
}

}  // namespace tessera::rendezvous
