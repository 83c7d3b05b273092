// How processes that know nothing of each other but their ranks find together: bytes of rank 0 (the id that a library
// of collectives begins with) come to all, or every rank learns why they do not. No rank returns before all have come.
// Two ways: comm/rendezvous_tcp.hpp and comm/rendezvous_file.hpp.
#pragma once

#include <cerrno>
#include <cstddef>
#include <span>
#include <string>
#include <system_error>

#include <tessera/core/duration.hpp>
#include <tessera/core/error.hpp>
#include <tessera/core/list.hpp>
#include <tessera/core/message.hpp>
#include <tessera/exec/thread.hpp>

namespace tessera::rendezvous {

/// Who this process is, and how long it waits for the others.
struct Member {
  int rank = 0;
  int world = 1;
  Duration timeout = Duration::seconds(600);

  /// Throws OptionError.
  void check() const {
    if (world < 1) throw OptionError(message({"rendezvous: there must be at least 1 rank, not ", world}));
    if (rank < 0 || rank >= world)
      throw OptionError(message({"rendezvous: there is no rank ", rank, " among ", world}));
    if (timeout <= Duration{}) throw OptionError("rendezvous: timeout must be greater than 0");
  }
};

/// How long who finds nothing yet sleeps until it looks again: starting processes takes longer.
inline constexpr Duration look_again = Duration::milliseconds(20);

/// "ranks 1, 2 and 5": those that are not among the arrived.
inline std::string missing(const List<bool>& arrived) {
  std::string who;
  int count = 0;
  for (std::size_t r = 0; r < arrived.size(); ++r)
    if (!arrived[r]) who += message({count++ ? ", " : "", r});
  if (const auto comma = who.rfind(", "); comma != std::string::npos) who.replace(comma, 2, " and ");
  return message({count == 1 ? "rank " : "ranks ", who, count == 1 ? " has" : " have"});
}

/// What the system says of errno.
inline std::string system_says(int error = errno) { return std::generic_category().message(error); }

}  // namespace tessera::rendezvous
