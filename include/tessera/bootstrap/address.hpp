// Resolves a host name to addresses, within a time limit.
#pragma once

#include <netdb.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <array>
#include <cerrno>
#include <condition_variable>
#include <cstring>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include <tessera/core/clock.hpp>

namespace tessera::bootstrap {

/// An IPv4 or IPv6 address and a port.
struct Address {
  sockaddr_storage storage{};
  socklen_t size = 0;

  const sockaddr* get() const noexcept { return reinterpret_cast<const sockaddr*>(&storage); }

  int port() const noexcept {
    return ntohs(storage.ss_family == AF_INET6 ? reinterpret_cast<const sockaddr_in6&>(storage).sin6_port
                                               : reinterpret_cast<const sockaddr_in&>(storage).sin_port);
  }

  /// The numeric address, without the port.
  std::string text() const {
    std::array<char, NI_MAXHOST> host{};
    const int error =
        ::getnameinfo(get(), size, host.data(), static_cast<socklen_t>(host.size()), nullptr, 0, NI_NUMERICHOST);
    return error == 0 ? host.data() : "an unknown address";
  }

  /// Compares address and port.
  friend bool operator==(const Address& a, const Address& b) noexcept {
    if (a.storage.ss_family != b.storage.ss_family || a.port() != b.port()) return false;
    if (a.storage.ss_family == AF_INET6)
      return std::memcmp(&reinterpret_cast<const sockaddr_in6&>(a.storage).sin6_addr,
                         &reinterpret_cast<const sockaddr_in6&>(b.storage).sin6_addr, sizeof(in6_addr)) == 0;
    return reinterpret_cast<const sockaddr_in&>(a.storage).sin_addr.s_addr ==
           reinterpret_cast<const sockaddr_in&>(b.storage).sin_addr.s_addr;
  }
};

namespace address {

/// getaddrinfo, or a replacement in tests.
using Lookup = int (*)(const char* host, const char* port, const addrinfo* hints, addrinfo** found);

/// A lookup and its result. Shared, since the lookup's thread may finish after the caller stopped waiting.
struct Query {
  std::string host;
  std::string port;
  Lookup lookup;
  std::mutex mutex{};
  std::condition_variable changed{};
  bool done = false;
  int error = 0;
  std::vector<Address> found{};

  Query(std::string_view name, int number, Lookup function)
      : host(name), port(std::to_string(number)), lookup(function) {}

  void ask(int flags) {
    addrinfo hints{};
    hints.ai_socktype = SOCK_STREAM;
    hints.ai_flags = flags;
    addrinfo* all = nullptr;
    const int failed = lookup(host.c_str(), port.c_str(), &hints, &all);
    std::vector<Address> addresses;
    for (const addrinfo* at = failed ? nullptr : all; at; at = at->ai_next) {
      Address address;
      if (at->ai_addrlen > sizeof address.storage) continue;
      std::memcpy(&address.storage, at->ai_addr, at->ai_addrlen);
      address.size = at->ai_addrlen;
      addresses.push_back(address);
    }
    if (all) ::freeaddrinfo(all);
    const std::scoped_lock lock(mutex);
    error = failed;
    found = std::move(addresses);
    done = true;
    changed.notify_all();
  }
};

}  // namespace address

/// The addresses of `host`, a name or a numeric address, in the order in which to try them. Blocks until `until` at
/// most: a separate thread looks up the name and is detached if that takes longer. If no address is found, the list is
/// empty and `why` has the reason.
inline std::vector<Address> addresses_of(const std::string& host, int port, core::Clock::time_point until, std::string& why,
                                         address::Lookup lookup = ::getaddrinfo) {
  const auto query = std::make_shared<address::Query>(host, port, lookup);
  query->ask(AI_NUMERICHOST);  // a numeric address needs no network
  if (!query->found.empty()) return query->found;
  query->done = false;
  try {
    std::thread([query] { query->ask(0); }).detach();
  } catch (const std::system_error& error) {
    why = error.what();
    return {};
  }
  std::unique_lock lock(query->mutex);
  while (!query->done && core::Clock::now() < until) query->changed.wait_until(lock, until);
  if (!query->done)
    why = "the system takes too long to look up the name";
  else if (query->found.empty())
    why = query->error ? ::gai_strerror(query->error) : "the name has no address";
  return query->found;
}

}  // namespace tessera::bootstrap
