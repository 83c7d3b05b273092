// What torchrun, and whoever sets the same variables, tells a process of its place among the others.
#pragma once

#include <cerrno>
#include <cstdint>
#include <cstdlib>
#include <string>

#include <tessera/core/digest.hpp>
#include <tessera/core/error.hpp>
#include <tessera/core/message.hpp>

namespace tessera {

/// RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR and MASTER_PORT; TORCHELASTIC_RUN_ID and TORCHELASTIC_RESTART_COUNT where
/// they are set.
struct Launch {
  int rank = 0;
  int world = 1;
  int local_rank = 0;
  std::string master_address;
  int master_port = 0;
  std::uint64_t job = 0;  ///< the same in all processes of one run, as far as can be told

  /// Throws OptionError that names every variable that is missing, or the one that is malformed.
  static Launch from_environment() {
    std::string missing;
    for (const char* name : {"RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"})
      if (!std::getenv(name)) missing += missing.empty() ? std::string(name) : message({", ", name});
    if (!missing.empty())
      throw OptionError(message({"environment: not set: ", missing, ": start the program with torchrun, or set them"}));
    Launch launch;
    launch.world = number("WORLD_SIZE", 1, 1 << 30);
    launch.rank = number("RANK", 0, launch.world - 1);
    launch.local_rank = number("LOCAL_RANK", 0, launch.world - 1);
    launch.master_address = std::getenv("MASTER_ADDR");
    if (launch.master_address.empty()) throw OptionError("environment: MASTER_ADDR is empty");
    launch.master_port = number("MASTER_PORT", 1, 65535);
    Digest digest;
    digest.add(launch.world).add(launch.master_port);
    for (const char* name : {"TORCHELASTIC_RUN_ID", "TORCHELASTIC_RESTART_COUNT"})
      if (const char* const value = std::getenv(name)) digest.add(std::string_view(value));
    launch.job = digest.value();
    return launch;
  }

 private:
  static int number(const char* name, int least, int most) {
    const char* const text = std::getenv(name);
    char* end = nullptr;
    errno = 0;
    const long value = std::strtol(text, &end, 10);
    if (*text == '\0' || *end != '\0' || errno != 0 || value < least || value > most)
      throw OptionError(
          message({"environment: ", name, " is \"", text, "\": a number from ", least, " to ", most, " is needed"}));
    return static_cast<int>(value);
  }
};

}  // namespace tessera
