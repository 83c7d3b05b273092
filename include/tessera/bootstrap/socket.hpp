// The few calls of TCP that a rendezvous needs, none of which blocks longer than it is told to.
#pragma once

#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include <tessera/bootstrap/address.hpp>
#include <tessera/core/clock.hpp>
#include <tessera/core/math.hpp>
#include <tessera/core/message.hpp>

namespace tessera::bootstrap {

/// An owned socket that never blocks by itself.
class Socket {
 public:
  Socket() = default;
  explicit Socket(int handle) noexcept : handle_(handle) {}
  Socket(Socket&& other) noexcept : handle_(std::exchange(other.handle_, -1)) {}
  Socket& operator=(Socket&& other) noexcept {
    std::swap(handle_, other.handle_);
    return *this;
  }
  ~Socket() {
    if (handle_ >= 0) ::close(handle_);
  }

  explicit operator bool() const noexcept { return handle_ >= 0; }
  int handle() const noexcept { return handle_; }

  /// Listens on every address of this machine. Port 0: any free one. Without success: not open, and errno says why.
  static Socket listening(int port) noexcept {
    for (const int family : {AF_INET6, AF_INET}) {  // the first serves both where the machine has it
      Socket socket(::socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
      if (!socket) continue;
      const int yes = 1, no = 0;
      ::setsockopt(socket.handle_, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
      if (family == AF_INET6) ::setsockopt(socket.handle_, IPPROTO_IPV6, IPV6_V6ONLY, &no, sizeof no);
      sockaddr_in6 any6{};
      any6.sin6_family = AF_INET6;
      any6.sin6_port = htons(static_cast<std::uint16_t>(port));
      sockaddr_in any4{};
      any4.sin_family = AF_INET;
      any4.sin_port = any6.sin6_port;
      const bool six = family == AF_INET6;
      const auto* const address =
          six ? reinterpret_cast<const sockaddr*>(&any6) : reinterpret_cast<const sockaddr*>(&any4);
      const socklen_t size = six ? sizeof any6 : sizeof any4;
      if (::bind(socket.handle_, address, size) == 0 && ::listen(socket.handle_, SOMAXCONN) == 0) return socket;
      if (errno == EADDRINUSE || errno == EACCES) break;
    }
    return {};
  }

  /// The address of this end, and of the other one; without a size if there is none.
  Address here() const noexcept { return address_by(::getsockname); }
  Address there() const noexcept { return address_by(::getpeername); }

  /// The port of a listening socket.
  int port() const noexcept { return here().port(); }

  /// The next connection of a listening socket. Not open: none has come, or errno says why there can be none.
  Socket accepted() const noexcept {
    return Socket(::accept4(handle_, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC));
  }

  /// How long an address may take to answer before the next one is tried.
  static constexpr std::chrono::nanoseconds patience = std::chrono::seconds(5);

  /// A connection to the first address of `host` that answers; without success not open, and `why` says why, address
  /// by address. Blocks until `until` at most, and `patience` an address.
  static Socket connected(const std::string& host, int port, core::Clock::time_point until, std::string& why) {
    const std::vector<Address> addresses = addresses_of(host, port, until, why);
    return addresses.empty() ? Socket() : connected(addresses, until, why);
  }
  static Socket connected(const std::vector<Address>& addresses, core::Clock::time_point until, std::string& why) {
    why.clear();
    for (const Address& address : addresses) {
      const core::Clock::time_point enough = core::Clock::now() + patience;
      Socket socket(::socket(address.storage.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
      const int error = socket ? socket.connect(address, enough < until ? enough : until) : errno;
      if (error == 0) return socket;
      why += message({why.empty() ? "" : "; ", address.text(), ": ", std::generic_category().message(error)});
    }
    return {};
  }

  /// Connects this socket. 0, or why not: an error of the system's.
  int connect(const Address& to, core::Clock::time_point until) const noexcept {
    int error = ::connect(handle_, to.get(), to.size) == 0 ? 0 : errno;
    if (error == EINPROGRESS || error == EINTR) {
      error = ETIMEDOUT;
      socklen_t size = sizeof error;
      if (ready(POLLOUT, until)) ::getsockopt(handle_, SOL_SOCKET, SO_ERROR, &error, &size);
    }
    if (error != 0 || !(here() == there())) return error;
    // Nobody listens, and the system gave this end the very port that it connects to, so TCP has connected it to
    // itself. A reset frees the port at once for the one who is to listen there; a plain close would keep it busy.
    const linger reset{1, 0};
    ::setsockopt(handle_, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
    return ECONNREFUSED;
  }

  /// Whether any of `events` (of poll) comes before the moment.
  bool ready(short events, core::Clock::time_point until) const noexcept {
    pollfd one{handle_, events, 0};
    int found;
    do found = ::poll(&one, 1, milliseconds_to(until));
    while (found < 0 && errno == EINTR);
    return found > 0;
  }

  /// False if the other side is gone or time is up.
  bool send(std::span<const std::byte> bytes, core::Clock::time_point until) const noexcept {
    while (!bytes.empty()) {
      const ssize_t sent = ::send(handle_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
      if (sent > 0)
        bytes = bytes.subspan(static_cast<std::size_t>(sent));
      else if (!again() || !ready(POLLOUT, until))
        return false;
    }
    return true;
  }
  bool receive(std::span<std::byte> bytes, core::Clock::time_point until) const noexcept {
    while (!bytes.empty()) {
      const ssize_t got = ::recv(handle_, bytes.data(), bytes.size(), 0);
      if (got > 0)
        bytes = bytes.subspan(static_cast<std::size_t>(got));
      else if (got == 0 || !again() || !ready(POLLIN, until))
        return false;
    }
    return true;
  }

  /// What has come, up to the size of `bytes`, without waiting: 0 if nothing has yet, -1 if nothing will.
  int receive_some(std::span<std::byte> bytes) const noexcept {
    const ssize_t got = ::recv(handle_, bytes.data(), bytes.size(), 0);
    return got > 0 ? static_cast<int>(got) : got < 0 && again() ? 0 : -1;
  }

  /// For poll.
  static int milliseconds_to(core::Clock::time_point until) noexcept {
    const std::int64_t left = (until - core::Clock::now()).count();  // of nanoseconds
    return left <= 0 ? 0 : static_cast<int>(min<std::int64_t>(left / 1'000'000 + 1, 1'000'000));
  }

 private:
  template <class Call>
  Address address_by(Call call) const noexcept {
    Address address;
    address.size = sizeof address.storage;
    if (call(handle_, reinterpret_cast<sockaddr*>(&address.storage), &address.size) != 0) address.size = 0;
    return address;
  }

  static bool again() noexcept { return errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR; }

  int handle_ = -1;
};

}  // namespace tessera::bootstrap
