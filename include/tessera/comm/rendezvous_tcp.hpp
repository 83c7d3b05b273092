// A rendezvous over TCP: rank 0 listens, the others say who they are, and once all have come each is answered. They may
// come in any order, before rank 0 too. Bytes go as they lie in memory, unencrypted: for the network of a cluster.
//
//     rank 0      listen ......... [all here] -> answer to each
//     rank r      connect, hello .............   bytes, or why not
#pragma once

#include <array>
#include <cstring>

#include <tessera/comm/rendezvous.hpp>
#include <tessera/comm/socket.hpp>

namespace tessera::rendezvous {

/// Where rank 0 listens. job: equal in all processes of one run; who comes with another is sent away.
struct TcpPlace {
  std::string host;
  int port = 0;
  std::uint64_t job = 0;

  std::string text() const { return message({host, ":", port}); }
};

namespace tcp {

inline constexpr std::array<char, 8> magic{'t', 'e', 's', 's', 'e', 'r', 'a', '1'};

struct Hello {
  std::array<char, 8> magic = tcp::magic;
  std::uint64_t job = 0;
  std::int32_t rank = 0;
  std::int32_t world = 0;
  std::uint64_t bytes = 0;
};

enum class Verdict : std::uint32_t { good, disagreement, failure };

/// Before the bytes, or before the text of what is wrong.
struct Answer {
  std::array<char, 8> magic = tcp::magic;
  Verdict verdict = Verdict::good;
  std::uint32_t size = 0;
};

[[noreturn]] inline void raise(Verdict verdict, const std::string& why) {
  if (verdict == Verdict::disagreement) throw AgreementError(why);
  throw CommError(why);
}

/// A connection to rank 0.
struct Guest {
  Socket socket{};
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
        came_(static_cast<std::size_t>(me.world)),
        listening_(Socket::listening(place.port)) {
    if (!listening_)
      throw CommError(message({"rank 0 cannot listen on port ", place.port, ": ", system_says(),
                               ": choose another port, the same on every rank"}));
  }

  void serve() {
    const Moment deadline = Moment::now() + me_.timeout;
    came_[0] = true;
    while (true) {
      List<bool> arrived(static_cast<std::size_t>(me_.world));
      arrived[0] = true;
      int here = 1;
      for (const Guest& guest : guests_)
        if (guest.introduced()) check(guest.hello(), arrived, here);
      if (here == me_.world) break;
      if (Moment::now() >= deadline)
        refuse(Verdict::failure, message({missing(came_), " not come to rank 0 at ", place_.text(), " within ",
                                          me_.timeout.seconds(), " s"}));
      wait(deadline);
    }
    for (const Guest& guest : guests_)
      if (guest.introduced()) answer(guest, Verdict::good, bytes_);
  }

 private:
  // Sends nothing away for what it says of itself but strangers.
  void check(const Hello& hello, List<bool>& arrived, int& here) {
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

  // What does not arrive is not missed: its rank has left, and will say so itself.
  void answer(const Guest& guest, Verdict verdict, std::span<const std::byte> with) const noexcept {
    const Answer answer{.verdict = verdict, .size = static_cast<std::uint32_t>(with.size())};
    const Moment soon = Moment::now() + Duration::seconds(1);
    if (guest.socket.send(std::as_bytes(std::span(&answer, 1)), soon)) guest.socket.send(with, soon);
  }

  // Known guests first, so that one who left is forgotten before its successor introduces itself.
  void wait(Moment deadline) {
    List<pollfd> polled(guests_.size() + 1);
    for (std::size_t i = 0; i < guests_.size(); ++i) polled[i] = {guests_[i].socket.handle(), POLLIN, 0};
    polled.back() = {listening_.handle(), POLLIN, 0};
    ::poll(polled.data(), polled.size(), Socket::milliseconds_to(deadline));
    List<Guest> stay;
    for (std::size_t i = 0; i < guests_.size(); ++i)
      if (polled[i].revents == 0 || hear(guests_[i])) stay.push_back(std::move(guests_[i]));
    guests_ = std::move(stay);
    while (Socket next = listening_.accepted()) guests_.push_back({.socket = std::move(next)});
  }

  // False: whoever this was is gone, or is none of ours.
  bool hear(Guest& guest) const noexcept {
    if (!guest.introduced()) {
      const int got = guest.socket.receive_some(std::span(guest.said).subspan(static_cast<std::size_t>(guest.size)));
      if (got < 0) return false;
      guest.size += got;
      if (!guest.introduced()) return true;
    }
    std::byte more;
    return guest.hello().magic == magic && guest.hello().job == place_.job &&
           guest.socket.receive_some({&more, 1}) == 0;
  }

  const TcpPlace& place_;
  Member me_;
  std::span<const std::byte> bytes_;
  List<bool> came_;  // some may have waited long enough, and left
  Socket listening_;
  List<Guest> guests_;
};

/// False, with the reason, if it is worth trying again.
inline bool ask(const TcpPlace& place, const Member& me, std::span<std::byte> bytes, Moment deadline,
                std::string& why) {
  const Socket socket = Socket::connected(place.host, place.port, deadline, why);
  if (!socket) return false;
  why = "it does not answer, or it is another program or another job";
  const Hello hello{.job = place.job, .rank = me.rank, .world = me.world, .bytes = bytes.size()};
  Answer answer;
  const std::span<Answer, 1> room(&answer, 1);
  if (!socket.send(std::as_bytes(std::span(&hello, 1)), deadline) ||
      !socket.receive(std::as_writable_bytes(room), deadline) || answer.magic != magic)
    return false;
  if (answer.verdict == Verdict::good) return answer.size == bytes.size() && socket.receive(bytes, deadline);
  std::string text(min<std::size_t>(answer.size, 4096), ' ');
  if (!socket.receive(std::as_writable_bytes(std::span(text)), deadline)) return false;
  raise(answer.verdict, text);
}

}  // namespace tcp

/// Brings rank 0's `bytes` to all others, whose `bytes` have the same size. Blocks until all ranks have come. Throws,
/// on every rank that has come, CommError that names those missing, AgreementError if two say they are the same rank
/// or count different worlds. Exchanges in a row may use one place.
inline void over_tcp(const TcpPlace& place, const Member& me, std::span<std::byte> bytes) {
  me.check();
  if (place.port < 1 || place.port > 65535)
    throw OptionError(message({"rendezvous: there is no port ", place.port, ": 1 to 65535"}));
  if (me.world == 1) return;
  if (me.rank == 0) return tcp::Host(place, me, bytes).serve();
  const Moment deadline = Moment::now() + me.timeout;
  std::string why;
  while (!tcp::ask(place, me, bytes, deadline, why)) {
    if (Moment::now() >= deadline)
      throw CommError(message({"rank ", me.rank, " of ", me.world, " found no rank 0 at ", place.text(), " within ",
                               me.timeout.seconds(), " s: ", why}));
    sleep_until(Moment::now() + look_again);
  }
}

}  // namespace tessera::rendezvous
