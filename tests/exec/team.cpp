#include <doctest/doctest.h>

#include <set>
#include <thread>
#include <vector>

#include <tessera/exec/team.hpp>

#include "float_environment.hpp"

using namespace tessera;

TEST_CASE("every part runs once per call, each on its own thread") {
  for (int parts : {1, 2, 4}) {
    exec::Team team(parts);
    for (int turn = 0; turn < 200; ++turn) {
      std::vector<int> worked(parts);
      std::vector<std::thread::id> threads(parts);
      team.run([&](int part) {
        ++worked[part];
        threads[part] = std::this_thread::get_id();
      });
      REQUIRE(worked == std::vector<int>(parts, 1));
      REQUIRE(std::set(threads.begin(), threads.end()).size() == static_cast<std::size_t>(parts));
      REQUIRE(threads[0] == std::this_thread::get_id());
    }
  }
}

TEST_CASE("fewer than one part counts as one") { CHECK(exec::Team(0).parts() == 1); }

TEST_CASE("a team that never runs work can be destroyed") { exec::Team team(3); }

TEST_CASE("each thread computes in the default floating-point environment, whatever its creator's environment") {
  const tessera::testing::StrangeEnvironment strange;
  for (int parts : {1, 3}) {
    exec::Team team(parts);
    std::vector<char> by_default(static_cast<std::size_t>(parts));
    team.run([&](int part) { by_default[static_cast<std::size_t>(part)] = tessera::testing::computes_by_default(); });
    CHECK(by_default == std::vector<char>(static_cast<std::size_t>(parts), 1));
    CHECK(tessera::testing::StrangeEnvironment::holds());
  }
}
