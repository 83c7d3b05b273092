// The few calls of TCP that a rendezvous needs, none of which blocks longer than it is told to.
#pragma once

#include <netdb.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <utility>

#include <tessera/core/math.hpp>
#include <tessera/core/message.hpp>
#include <tessera/exec/thread.hpp>

namespace tessera {

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

  /// The port of a listening socket.
  int port() const noexcept {
    sockaddr_storage address{};
    socklen_t size = sizeof address;
    ::getsockname(handle_, reinterpret_cast<sockaddr*>(&address), &size);
    return ntohs(address.ss_family == AF_INET6 ? reinterpret_cast<const sockaddr_in6&>(address).sin6_port
                                               : reinterpret_cast<const sockaddr_in&>(address).sin_port);
  }

  /// The next connection of a listening socket, if one has come.
  Socket accepted() const noexcept {
    return Socket(::accept4(handle_, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC));
  }

  /// A connection; without success not open, and `why` says so.
  static Socket connected(const std::string& host, int port, Moment until, std::string& why) {
    addrinfo hints{};
    hints.ai_socktype = SOCK_STREAM;
    addrinfo* found = nullptr;
    if (const int error = ::getaddrinfo(host.c_str(), std::to_string(port).c_str(), &hints, &found); error != 0) {
      why = ::gai_strerror(error);
      return {};
    }
    Socket open;
    for (const addrinfo* at = found; at && !open; at = at->ai_next) {
      Socket socket(::socket(at->ai_family, at->ai_socktype | SOCK_NONBLOCK | SOCK_CLOEXEC, at->ai_protocol));
      if (!socket) continue;
      int error = ::connect(socket.handle_, at->ai_addr, at->ai_addrlen) == 0 ? 0 : errno;
      if (error == EINPROGRESS) {
        error = ETIMEDOUT;
        socklen_t size = sizeof error;
        if (socket.ready(POLLOUT, until)) ::getsockopt(socket.handle_, SOL_SOCKET, SO_ERROR, &error, &size);
      }
      if (error == 0)
        open = std::move(socket);
      else
        why = std::generic_category().message(error);
    }
    ::freeaddrinfo(found);
    return open;
  }

  /// Whether any of `events` (of poll) comes before the moment.
  bool ready(short events, Moment until) const noexcept {
    pollfd one{handle_, events, 0};
    int found;
    do found = ::poll(&one, 1, milliseconds_to(until));
    while (found < 0 && errno == EINTR);
    return found > 0;
  }

  /// False if the other side is gone or time is up.
  bool send(std::span<const std::byte> bytes, Moment until) const noexcept {
    while (!bytes.empty()) {
      const ssize_t sent = ::send(handle_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
      if (sent > 0)
        bytes = bytes.subspan(static_cast<std::size_t>(sent));
      else if (!again() || !ready(POLLOUT, until))
        return false;
    }
    return true;
  }
  bool receive(std::span<std::byte> bytes, Moment until) const noexcept {
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
  static int milliseconds_to(Moment until) noexcept {
    const std::int64_t left = (until - Moment::now()).nanoseconds();
    return left <= 0 ? 0 : static_cast<int>(min<std::int64_t>(left / 1'000'000 + 1, 1'000'000));
  }

 private:
  static bool again() noexcept { return errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR; }

  int handle_ = -1;
};

}  // namespace tessera
