// The environment variables by which torchrun and similar launchers tell a process its rank.
#pragma once

#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include <tessera/core/digest.hpp>
#include <tessera/core/error.hpp>
#include <tessera/core/message.hpp>

namespace tessera {

/// Variables that differ from run to run: a token of the user's own, and those of Slurm and torchrun.
inline constexpr const char* names_of_a_run[] = {"TESSERA_JOB",         "SLURM_JOB_ID",
                                                 "SLURM_STEP_ID",       "SLURM_RESTART_COUNT",
                                                 "TORCHELASTIC_RUN_ID", "TORCHELASTIC_RESTART_COUNT"};

/// A digest of the user id and of the variables in names_of_a_run: equal in all processes of one run.
inline std::uint64_t run_from_environment() {
  core::Digest digest;
  digest.add(std::int64_t{::geteuid()});
  for (const char* name : names_of_a_run)
    if (const char* const value = std::getenv(name)) digest.add(std::string_view(name)).add(std::string_view(value));
  return digest.value();
}

/// RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR and MASTER_PORT, and a number that identifies the run.
struct Launch {
  int rank = 0;
  int world = 1;
  int local_rank = 0;
  std::string master_address;
  int master_port = 0;
  std::uint64_t job = 0;  ///< a digest of run_from_environment(), WORLD_SIZE and MASTER_PORT

  /// Throws OptionError that names all missing variables, or a malformed one.
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
    const std::uint64_t run = run_from_environment();
    launch.job = core::Digest().add(launch.world).add(launch.master_port).add(static_cast<std::int64_t>(run)).value();
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
