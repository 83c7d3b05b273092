#include <doctest/doctest.h>

#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <string>
#include <utility>
#include <vector>

#include <tessera/bootstrap/launch.hpp>

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

// Sets torchrun's variables, one of them to another value (null: not set), and reads them.
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

TEST_CASE("torchrun's variables give rank, world size and address") {
  const Launch launch = with();
  CHECK(launch.rank == 5);
  CHECK(launch.world == 8);
  CHECK(launch.local_rank == 1);
  CHECK(launch.master_address == "a");
  CHECK(launch.master_port == 29500);
}

TEST_CASE("all missing variables are named in one error") {
  CHECK_THROWS_WITH_AS(with("LOCAL_RANK"), doctest::Contains("environment: not set: LOCAL_RANK: start"), OptionError);
  unsetenv("RANK");
  unsetenv("MASTER_PORT");
  CHECK_THROWS_WITH_AS(Launch::from_environment(), doctest::Contains("not set: RANK, LOCAL_RANK, MASTER_PORT: "),
                       OptionError);
}

TEST_CASE("a malformed variable is named with its value and the legal range") {
  CHECK_THROWS_WITH_AS(with("RANK", "8"), "environment: RANK is \"8\": a number from 0 to 7 is needed", OptionError);
  CHECK_THROWS_WITH_AS(with("WORLD_SIZE", "many"), doctest::Contains("WORLD_SIZE is \"many\""), OptionError);
  CHECK_THROWS_WITH_AS(with("MASTER_PORT", ""), doctest::Contains("MASTER_PORT is \"\""), OptionError);
  CHECK_THROWS_WITH_AS(with("MASTER_PORT", "65536"), doctest::Contains("from 1 to 65535"), OptionError);
  CHECK_THROWS_WITH_AS(with("LOCAL_RANK", "-1"), doctest::Contains("LOCAL_RANK is \"-1\""), OptionError);
  CHECK_THROWS_WITH_AS(with("MASTER_ADDR", ""), doctest::Contains("MASTER_ADDR is empty"), OptionError);
}

TEST_CASE("different runs and restarts have different job numbers, and the ranks of one run the same") {
  const std::uint64_t job = with().job;
  CHECK(with("RANK", "3").job == job);
  CHECK(with("MASTER_ADDR", "localhost").job == job);  // one machine may have two names
  CHECK(with("TORCHELASTIC_RUN_ID", "7").job != job);
  CHECK(with("TORCHELASTIC_RESTART_COUNT", "1").job != job);
  CHECK(with("TORCHELASTIC_RESTART_COUNT").job != job);
  CHECK(with("MASTER_PORT", "29501").job != job);
}

TEST_CASE("a user's token and Slurm's ids change the job number, each by its name and value") {
  std::vector<std::uint64_t> jobs{with().job};
  for (const char* name : {"TESSERA_JOB", "SLURM_JOB_ID", "SLURM_STEP_ID", "SLURM_RESTART_COUNT"})
    for (const char* value : {"", "1", "2"}) {
      setenv(name, value, 1);
      jobs.push_back(with().job);
      CHECK(with("RANK", "3").job == jobs.back());
      unsetenv(name);
    }
  for (std::size_t i = 0; i < jobs.size(); ++i)
    for (std::size_t j = 0; j < i; ++j) CHECK(jobs[i] != jobs[j]);
  CHECK(with().job == jobs[0]);
}

// Computed in another process, which may run as another user.
std::uint64_t job_of_user(uid_t user) {
  std::array<int, 2> ends{};
  REQUIRE(pipe(ends.data()) == 0);
  std::uint64_t job = 0;
  if (const pid_t child = fork(); child == 0) {
    job = setuid(user) == 0 ? Launch::from_environment().job : 0;
    _exit(write(ends[1], &job, sizeof job) == sizeof job ? 0 : 1);
  } else {
    int status = -1;
    CHECK(read(ends[0], &job, sizeof job) == sizeof job);
    waitpid(child, &status, 0);
    CHECK(status == 0);
  }
  close(ends[0]), close(ends[1]);
  return job;
}

TEST_CASE("two users have different job numbers") {
  const std::uint64_t job = with().job;
  CHECK(job_of_user(geteuid()) == job);
  if (geteuid() == 0) {  // only root can become another user
    const std::uint64_t theirs = job_of_user(12345);
    CHECK(theirs != 0);
    CHECK(theirs != job);
  }
}

}  // namespace
}  // namespace tessera
