#include <cuda_runtime.h>
#include <doctest/doctest.h>
#include <nccl.h>

#include <chrono>
#include <future>
#include <string>
#include <vector>

#include <tessera/core/clock.hpp>
#include <tessera/cuda/nccl/parent.cuh>

#include "cuda/nccl_ranks.hpp"

namespace tessera {
namespace {

using nccl::Parent;

constexpr std::chrono::nanoseconds patient = std::chrono::seconds(30);

TEST_CASE("all ranks join, and split in the same order") {
  if (!testing::devices_for(3)) return;
  const ncclUniqueId id = testing::new_id();
  const auto errors = testing::errors_of_threads(3, [&](int rank) {
    Parent parent(id, rank, 3, patient);
    CHECK(parent.rank() == rank);
    CHECK(parent.world() == 3);
    CHECK(parent.device() == rank);
    for (int k = 0; k < 2; ++k) {
      const ncclComm_t child = parent.split(patient);
      int ranks = 0, me = -1;
      nccl::check(ncclCommCount(child, &ranks), "counting");
      nccl::check(ncclCommUserRank(child, &me), "asking");
      CHECK(ranks == 3);
      CHECK(me == rank);
      nccl::end({child});
    }
  });
  for (const std::string& error : errors) CHECK(error == "");
  CHECK(testing::communicators() == 0);
}

TEST_CASE("if a rank does not join, the others' wait ends with an error and no communicator is left") {
  if (!testing::devices_for(2)) return;
  const ncclUniqueId id = testing::new_id();
  const auto errors = testing::errors_of_threads(1, [&](int rank) { Parent(id, rank, 2, testing::impatient); });
  CHECK(errors[0] == message({"rank 0 of 2 could not join the communicator: not all ranks have arrived within ",
                              core::seconds_of(testing::impatient), " s"}));
  CHECK(testing::communicators() == 0);
}

TEST_CASE("if a rank does not split, the others' wait ends with an error, as does every later split") {
  if (!testing::devices_for(2)) return;
  const ncclUniqueId id = testing::new_id();
  const auto errors = testing::errors_of_threads(2, [&](int rank) {
    Parent parent(id, rank, 2, patient);
    if (rank == 1) return;
    CHECK_THROWS_AS(parent.split(testing::impatient), CommError);
    parent.split(patient);
  });
  REQUIRE(errors.size() == 2);
  CHECK(errors[0] == message({"rank 0 of 2 could not create a queue: not all ranks have created theirs within ",
                              core::seconds_of(testing::impatient), " s"}));
  CHECK(errors[1] == "");
  CHECK(testing::communicators() == 0);
}

TEST_CASE("a split of a framework's blocking communicator, which waits inside NCCL, ends with an error too") {
  if (!testing::devices_for(2)) return;
  const ncclUniqueId id = testing::new_id();
  std::promise<void> given_up;
  const auto errors = testing::errors_of_threads(2, [&](int rank) {
    ncclComm_t existing = nullptr, late = nullptr;
    nccl::check(ncclCommInitRank(&existing, 2, id, rank), "joining");
    if (rank == 1) {
      given_up.get_future().wait();
      nccl::check(ncclCommSplit(existing, 0, rank, &late, nullptr), "splitting");  // ends rank 0's call
      return;
    }
    Parent parent(existing);
    CHECK_THROWS_AS(parent.split(testing::impatient), CommError);
    given_up.set_value();
    parent.split(patient);
  });
  REQUIRE(errors.size() == 2);
  CHECK(errors[0] == message({"rank 0 of 2 could not create a queue: not all ranks have created theirs within ",
                              core::seconds_of(testing::impatient), " s"}));
  CHECK(errors[1] == "");
}

TEST_CASE("two ranks on one device get NCCL's error") {
  if (!testing::devices_for(1)) return;
  const ncclUniqueId id = testing::new_id();
  const auto errors = testing::errors_of_threads(
      2, [&](int rank) { Parent(id, rank, 2, patient); }, [](int) { return 0; });
  for (const std::string& error : errors)
    CHECK(error.find("could not join the communicator: NCCL: invalid usage") != std::string::npos);
}

}  // namespace
}  // namespace tessera
