#include <cuda_runtime.h>
#include <doctest/doctest.h>
#include <nccl.h>

#include <chrono>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include <tessera/core/clock.hpp>
#include <tessera/cuda/nccl/channel.cuh>

#include "cuda/nccl_ranks.hpp"
#include "cuda/ranks.hpp"

namespace tessera {
namespace {

using nccl::Channel;
using nccl::Parent;
using Memory = testing::DeviceMemory<float>;

constexpr std::chrono::nanoseconds patient = std::chrono::seconds(30);

local::Call norm(index_t index) {
  return {.kind = Collective::all_reduce,
          .in = element_type<float>(),
          .out = element_type<float>(),
          .pieces = {{16, 0}},
          .tag = {"norm of step", index, index}};
}

CudaEvent all_reduce(Channel& channel, Memory& x, index_t index, const CudaEvent& after = {}) {
  return channel.post(norm(index), after, [&](auto& turn) {
    turn.nccl([&](ncclComm_t comm, cudaStream_t stream, nccl::FirstError& error) {
      error(ncclAllReduce(x.in().data(), x.out().data(), 16, ncclFloat32, ncclSum, comm, stream));
    });
  });
}

// One channel per rank, each on its own thread, without a watchdog.
template <class F>
void run_channels(int world, std::chrono::nanoseconds timeout, F f) {
  if (!testing::devices_for(world)) return;
  const ncclUniqueId id = testing::new_id();
  const auto errors = testing::errors_of_threads(world, [&](int rank) {
    Channel channel(std::make_shared<Parent>(id, rank, world, patient), timeout);
    f(channel, rank);
  });
  for (const std::string& error : errors) CHECK(error == "");
}

std::string failure_of(const CudaEvent& event) {
  try {
    event.wait();
  } catch (const CommError& error) {
    return error.what();
  }
  return "";
}

// What the watchdog does for one channel.
void look(nccl::Channel& channel) {
  channel.look();
  if (const std::string why = channel.condemned_for(); !why.empty())
    if (const nccl::Handle dead = channel.give_up(why)) nccl::abort({dead});
}

TEST_CASE("the timeout counts from when the stream reaches the collective, not from its posting") {
  run_channels(2, testing::impatient, [](Channel& channel, int) {
    Memory x(std::vector<float>(16, 1.0f));
    const auto event = all_reduce(channel, x, 0);
    // No check has been made yet, so the timeout has not begun.
    std::this_thread::sleep_for(testing::impatient + std::chrono::milliseconds(20));
    look(channel);
    CHECK(failure_of(event) == "");
    CHECK(x.get() == std::vector<float>(16, 2.0f));
  });
}

TEST_CASE("a collective that times out is aborted by the check, and the stream continues") {
  run_channels(2, testing::impatient, [](Channel& channel, int rank) {
    if (rank == 1) return;
    Memory x(std::vector<float>(16, 1.0f));
    all_reduce(channel, x, 0);
    const auto event = all_reduce(channel, x, 1);
    std::thread watchdog([&] {
      const core::Clock::time_point end = core::Clock::now() + testing::impatient + testing::impatient;
      while (core::Clock::now() < end) {
        look(channel);
        std::this_thread::sleep_for(std::chrono::milliseconds(2));
      }
    });
    CHECK(
        failure_of(event) ==
        message({"all_reduce of 16 float (norm of step 0, pass 0), operation 0, was not done after ",
                 core::seconds_of(testing::impatient),
                 " s: a rank is missing or made a different call; communicator aborted"}));
    watchdog.join();
    CHECK(x.get().size() == 16);  // undefined content, but the stream continues
    CHECK_THROWS_AS(all_reduce(channel, x, 2), CommError);
    channel.drop();
    CHECK(failure_of(event) == "");  // of an earlier epoch
  });
}

TEST_CASE("a replay that a rank does not join is aborted too, and its stream continues") {
  run_channels(2, testing::impatient, [](Channel& channel, int rank) {
    Memory x(std::vector<float>(16, 1.0f));
    all_reduce(channel, x, 0).wait();  // connected
    const CudaStream stream;
    REQUIRE(cudaStreamBeginCapture(stream.get(), cudaStreamCaptureModeThreadLocal) == cudaSuccess);
    EventRing events;
    const CudaEvent fork(events.record(stream.get()));
    CudaEvent captured;
    for (int i = 1; i < 3; ++i) captured = all_reduce(channel, x, i, fork);
    captured.hold(stream.get());
    cudaGraph_t graph = nullptr;
    cudaGraphExec_t replay = nullptr;
    REQUIRE(cudaStreamEndCapture(stream.get(), &graph) == cudaSuccess);
    REQUIRE(cudaGraphInstantiate(&replay, graph, 0) == cudaSuccess);
    REQUIRE(cudaGraphLaunch(replay, stream.get()) == cudaSuccess);
    REQUIRE(cudaStreamSynchronize(stream.get()) == cudaSuccess);
    look(channel);
    CHECK(failure_of(captured) == "");
    CHECK(x.get() == std::vector<float>(16, 8.0f));
    if (rank == 0) {
      REQUIRE(cudaGraphLaunch(replay, stream.get()) == cudaSuccess);
      std::thread watchdog([&] {
        const core::Clock::time_point end = core::Clock::now() + testing::impatient + testing::impatient;
        while (core::Clock::now() < end) {
          look(channel);
          std::this_thread::sleep_for(std::chrono::milliseconds(2));
        }
      });
      REQUIRE(cudaStreamSynchronize(stream.get()) == cudaSuccess);
      watchdog.join();
      CHECK(failure_of(captured) ==
            message({"all_reduce of 16 float (norm of step 1, pass 1), replayed in a graph, was not done after ",
                     core::seconds_of(testing::impatient),
                     " s: a rank is missing or made a different call; communicator aborted"}));
    }
    REQUIRE(cudaGraphExecDestroy(replay) == cudaSuccess);
    REQUIRE(cudaGraphDestroy(graph) == cudaSuccess);
  });
}

#if !defined(__CUDACC__)  // real calls cannot break a network

void break_the_network() {
  const emulated::Lock lock(emulated::machine().mutex);
  for (auto& [handle, comm] : emulated::nccl().communicators) comm->failed = ncclRemoteError;
}

TEST_CASE("an error that NCCL reports ends the epoch, with work in flight or without") {
  run_channels(1, patient, [](Channel& channel, int) {
    Memory x(std::vector<float>(16, 1.0f));
    CHECK(failure_of(all_reduce(channel, x, 0)) == "");
    const auto event = all_reduce(channel, x, 1);
    break_the_network();
    look(channel);
    const std::string why = failure_of(event);
    CHECK((why.starts_with("all_reduce of 16 float (norm of step 1, pass 1), operation 1: ") ||
           why.starts_with("a queue without pending collectives: ")));
    CHECK(
        why.ends_with("NCCL: remote process exited or there was a network error (of the emulation); communicator "
                      "aborted"));
  });
}

TEST_CASE("an event of before a drop does not report a failure of after it") {
  run_channels(1, patient, [](Channel& channel, int) {
    Memory x(std::vector<float>(16, 1.0f));
    const auto before = all_reduce(channel, x, 0);
    channel.drop();
    const auto after = all_reduce(channel, x, 1);
    break_the_network();
    look(channel);
    CHECK(failure_of(after) != "");
    CHECK(failure_of(before) == "");
  });
}

TEST_CASE("memory is registered with the communicator of every epoch until it is withdrawn") {
  run_channels(1, patient, [](Channel& channel, int) {
    Memory x(std::vector<float>(16, 1.0f)), y(std::vector<float>(16));
    channel.enlist(x.out().data(), 64);
    channel.enlist(y.out().data(), 64);
    CHECK(emulated::nccl_registrations() == 2);
    channel.withdraw(x.out().data());
    CHECK(emulated::nccl_registrations() == 1);
    channel.drop();
    all_reduce(channel, x, 0).wait();
    CHECK(emulated::nccl_registrations() == 1);
    channel.withdraw(y.out().data());
    CHECK(emulated::nccl_registrations() == 0);
  });
  CHECK(emulated::nccl_communicators() == 0);
}

TEST_CASE("memory that NCCL cannot register is an error, since other ranks' memory may be registered") {
  run_channels(1, patient, [](Channel& channel, int) {
    Memory x(std::vector<float>(16));
    CHECK_THROWS_WITH_AS(channel.enlist(x.out().data(), 65), doctest::Contains("registering memory: NCCL: "), CommError);
    channel.withdraw(x.out().data());
    CHECK(emulated::nccl_registrations() == 0);
  });
}

#endif

}  // namespace
}  // namespace tessera
