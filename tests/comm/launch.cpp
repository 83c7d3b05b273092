#include <doctest/doctest.h>

#include <string>
#include <utility>
#include <vector>

#include <tessera/comm/launch.hpp>

namespace tessera {
namespace {

using Variables = std::vector<std::pair<const char*, const char*>>;

const Variables of_torchrun = {{"RANK", "5"},
                               {"WORLD_SIZE", "8"},
                               {"LOCAL_RANK", "1"},
                               {"MASTER_ADDR", "a"},
                               {"MASTER_PORT", "29500"},
                               {"TORCHELASTIC_RUN_ID", "none"},
                               {"TORCHELASTIC_RESTART_COUNT", "0"}};

// Sets torchrun's variables but for one of another value (null: not set), and reads them.
Launch with(const char* name = "", const char* value = nullptr) {
  for (const auto& [variable, usual] : of_torchrun) {
    const char* const now = std::string(variable) == name ? value : usual;
    if (now)
      setenv(variable, now, 1);
    else
      unsetenv(variable);
  }
  return Launch::from_environment();
}

TEST_CASE("torchrun's variables say who this process is") {
  const Launch launch = with();
  CHECK(launch.rank == 5);
  CHECK(launch.world == 8);
  CHECK(launch.local_rank == 1);
  CHECK(launch.master_address == "a");
  CHECK(launch.master_port == 29500);
}

TEST_CASE("all variables that are missing are named at once") {
  CHECK_THROWS_WITH_AS(with("LOCAL_RANK"), doctest::Contains("environment: not set: LOCAL_RANK: start"), OptionError);
  unsetenv("RANK");
  unsetenv("MASTER_PORT");
  CHECK_THROWS_WITH_AS(Launch::from_environment(), doctest::Contains("not set: RANK, LOCAL_RANK, MASTER_PORT: "),
                       OptionError);
}

TEST_CASE("a malformed variable is named with its value and what it could be") {
  CHECK_THROWS_WITH_AS(with("RANK", "8"), "environment: RANK is \"8\": a number from 0 to 7 is needed", OptionError);
  CHECK_THROWS_WITH_AS(with("WORLD_SIZE", "many"), doctest::Contains("WORLD_SIZE is \"many\""), OptionError);
  CHECK_THROWS_WITH_AS(with("MASTER_PORT", ""), doctest::Contains("MASTER_PORT is \"\""), OptionError);
  CHECK_THROWS_WITH_AS(with("MASTER_PORT", "65536"), doctest::Contains("from 1 to 65535"), OptionError);
  CHECK_THROWS_WITH_AS(with("LOCAL_RANK", "-1"), doctest::Contains("LOCAL_RANK is \"-1\""), OptionError);
  CHECK_THROWS_WITH_AS(with("MASTER_ADDR", ""), doctest::Contains("MASTER_ADDR is empty"), OptionError);
}

TEST_CASE("runs are told apart, and so are the tries of one run; its ranks are not") {
  const std::uint64_t job = with().job;
  CHECK(with("RANK", "3").job == job);
  CHECK(with("MASTER_ADDR", "localhost").job == job);  // the same machine may go by two names
  CHECK(with("TORCHELASTIC_RUN_ID", "7").job != job);
  CHECK(with("TORCHELASTIC_RESTART_COUNT", "1").job != job);
  CHECK(with("TORCHELASTIC_RESTART_COUNT").job != job);
  CHECK(with("MASTER_PORT", "29501").job != job);
}

}  // namespace
}  // namespace tessera
