// How processes that know only their ranks find each other. Rank 0's bytes (the id with which a communication library
// starts) are sent to all ranks, or every rank gets the reason why not. No rank returns before all have arrived.
// Two implementations: bootstrap/tcp.hpp and bootstrap/file.hpp.
#pragma once

#include <cerrno>
#include <chrono>
#include <cstddef>
#include <span>
#include <string>
#include <string_view>
#include <system_error>
#include <vector>

#include <tessera/core/clock.hpp>
#include <tessera/core/error.hpp>
#include <tessera/core/list.hpp>
#include <tessera/core/message.hpp>
#include <tessera/core/rank_list.hpp>

namespace tessera::rendezvous {

/// The calling process's rank, the world size, and how long to wait for the other ranks.
struct Member {
  int rank = 0;
  int world = 1;
  std::chrono::nanoseconds timeout = std::chrono::minutes(10);

  /// Throws OptionError.
  void validate() const {
    if (world < 1) throw OptionError(message({"rendezvous: there must be at least 1 rank, not ", world}));
    if (rank < 0 || rank >= world)
      throw OptionError(message({"rendezvous: there is no rank ", rank, " among ", world}));
    if (timeout <= std::chrono::nanoseconds{}) throw OptionError("rendezvous: timeout must be greater than 0");
  }
};

/// The polling interval. It is shorter than the time that starting a process takes.
inline constexpr std::chrono::nanoseconds look_again = std::chrono::milliseconds(20);

/// "ranks 1, 2 and 5 have": the ranks that have not arrived, at most 8 of them by number. Empty if all have.
inline std::string missing(const std::vector<char>& arrived) {
  core::List<int> who;
  for (std::size_t r = 0; r < arrived.size(); ++r)
    if (!arrived[r]) who.push_back(static_cast<int>(r));
  return who.empty() ? std::string() : core::text_of_ranks(who, 8) + (who.size() == 1 ? " has" : " have");
}

/// The message for a timeout at `place`: the ranks that never arrived, or else the ranks that arrived and left.
inline std::string time_is_up(const std::vector<char>& came, const std::vector<char>& here, std::string_view place,
                              std::chrono::nanoseconds within) {
  const std::string never = missing(came);
  if (!never.empty()) return message({never, " not reached ", place, " within ", core::seconds_of(within), " s"});
  return message({missing(here), " reached ", place, " and left again before all ranks were there, within ",
                  core::seconds_of(within),
                  " s: give all ranks the same timeout, and read the errors of those that left"});
}

/// The system's message for errno.
inline std::string system_says(int error = errno) { return std::generic_category().message(error); }

}  // namespace tessera::rendezvous
