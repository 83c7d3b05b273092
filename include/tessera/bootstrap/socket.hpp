// The TCP calls of a rendezvous. None blocks longer than its deadline.
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

/// Owns a non-blocking socket.
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

  /// A socket that listens on all addresses of this machine. Port 0: any free port. On failure not open, with errno.
  static Socket listening(int port) noexcept {
    for (const int family : {AF_INET6, AF_INET}) {  // where available, an IPv6 socket serves both families
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

  /// The addresses of this end and of the peer; size 0 if there is none.
  Address here() const noexcept { return address_by(::getsockname); }
  Address there() const noexcept { return address_by(::getpeername); }

  /// The port of a listening socket.
  int port() const noexcept { return here().port(); }

  /// Accepts a connection. Not open: no connection is waiting, or errno has the error.
  Socket accepted() const noexcept {
    return Socket(::accept4(handle_, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC));
  }

  /// The time limit for one address, after which the next one is tried.
  static constexpr std::chrono::nanoseconds patience = std::chrono::seconds(5);

  /// A connection to the first address of `host` that answers. On failure not open, and `why` has the reason for each
  /// address. Blocks until `until` at most, and at most `patience` per address.
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

  /// Connects this socket. Returns 0 or an errno value.
  int connect(const Address& to, core::Clock::time_point until) const noexcept {
    int error = ::connect(handle_, to.get(), to.size) == 0 ? 0 : errno;
    if (error == EINPROGRESS || error == EINTR) {
      error = ETIMEDOUT;
      socklen_t size = sizeof error;
      if (ready(POLLOUT, until)) ::getsockopt(handle_, SOL_SOCKET, SO_ERROR, &error, &size);
    }
    if (error != 0 || !(here() == there())) return error;
    // TCP has connected the socket to itself: nothing listens on the port, and the system selected the same port for
    // this end. A reset frees the port at once for the process that will listen on it; a normal close would not.
    const linger reset{1, 0};
    ::setsockopt(handle_, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
    return ECONNREFUSED;
  }
/// Whether one of `events` (as in poll) occurs before `until`.
  /// Whether any of `events` (of poll) comes before the moment.
  bool ready(short events, core::Clock::time_point until) const noexcept {
    pollfd one{handle_, events, 0};
    int found;
    do found = ::poll(&one, 1, milliseconds_to(until));
    while (found < 0 && errno == EINTR);
    return found > 0;
  }

  /// send() and receive(): false if the peer closed the connection or at the deadline.
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

  /// Receives up to bytes.size() bytes without waiting. 0: none available yet; -1: the connection is closed.
  int receive_some(std::span<std::byte> bytes) const noexcept {
    const ssize_t got = ::recv(handle_, bytes.data(), bytes.size(), 0);
    return got > 0 ? static_cast<int>(got) : got < 0 && again() ? 0 : -1;
  }

  /// The time until the deadline as poll's timeout.
  static int milliseconds_to(core::Clock::time_point until) noexcept {
    const std::int64_t left = (until - core::Clock::now()).count();  // in nanoseconds
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
