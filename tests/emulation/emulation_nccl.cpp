// NCCL in the emulation.
#include <doctest/doctest.h>
#include <nccl.h>

#include <atomic>
#include <cmath>
#include <thread>

#include "fixtures.hpp"

namespace emulated_test {
namespace {

// Calls f(communicator, rank, stream) on one thread and one device per rank.
template <class F>
void run_ranks(int ranks, const F& f, int blocking = 1) {
  emulated::devices(ranks);
  ncclUniqueId id;
  REQUIRE(ncclGetUniqueId(&id) == ncclSuccess);
  std::vector<std::thread> threads;
  for (int rank = 0; rank < ranks; ++rank) {
    threads.emplace_back([=, &f] {
      REQUIRE(cudaSetDevice(rank) == cudaSuccess);
      ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
      config.blocking = blocking;
      ncclComm_t comm = nullptr;
      ncclResult_t state = ncclCommInitRankConfig(&comm, ranks, id, rank, &config);
      while (state == ncclInProgress) REQUIRE(ncclCommGetAsyncError(comm, &state) == ncclSuccess);
      REQUIRE(state == ncclSuccess);
      Stream stream;
      f(comm, rank, stream);
    });
  }
  for (std::thread& thread : threads) thread.join();
  emulated::devices(1);
}

std::vector<float> values_of(int rank, std::size_t n) {
  std::vector<float> values(n);
  for (std::size_t i = 0; i < n; ++i) values[i] = std::sin(static_cast<float>(i + 1) * static_cast<float>(rank + 1));
  return values;
}

}  // namespace

TEST_CASE("every collective has NCCL's result on every rank, also in place, and sums have no fixed order") {
  constexpr int ranks = 4;
  constexpr std::size_t n = 20;
  std::atomic<int> other_bits{0};
  run_ranks(ranks, [&](ncclComm_t comm, int rank, cudaStream_t stream) {
    const std::size_t r = static_cast<std::size_t>(rank);
    Array<float> whole(values_of(rank, n * ranks)), gathered(n * ranks), sum(n * ranks), part(n), sent(n);
    CHECK(ncclAllReduce(whole.data, sum.data, n * ranks, ncclFloat, ncclSum, comm, stream) == ncclSuccess);
    CHECK(ncclReduceScatter(whole.data, part.data, n, ncclFloat, ncclSum, comm, stream) == ncclSuccess);
    CHECK(ncclAllGather(part.data, gathered.data, n, ncclFloat, comm, stream) == ncclSuccess);
    CHECK(ncclReduceScatter(whole.data, whole.data + r * n, n, ncclFloat, ncclSum, comm, stream) == ncclSuccess);
    CHECK(ncclAllGather(whole.data + r * n, whole.data, n, ncclFloat, comm, stream) == ncclSuccess);
    CHECK(ncclBroadcast(part.data, sent.data, n, ncclFloat, 2, comm, stream) == ncclSuccess);
    CHECK(cudaStreamSynchronize(stream) == cudaSuccess);
    const auto all = sum.values();
    for (std::size_t i = 0; i < n * ranks; ++i) {
      float in_order = 0;
      for (int k = 0; k < ranks; ++k) in_order += values_of(k, n * ranks)[i];
      CHECK(all[i] == doctest::Approx(in_order).epsilon(1e-5));
      if (all[i] != in_order) ++other_bits;
    }
    CHECK(gathered.values() == all);
    CHECK(whole.values() == all);
    for (std::size_t i = 0; i < n; ++i) CHECK(sent.values()[i] == all[2 * n + i]);
    CHECK(ncclCommDestroy(comm) == ncclSuccess);
  });
  CHECK(other_bits > 0);
  CHECK(emulated::nccl_communicators() == 0);
}

TEST_CASE(
    "sends match receives of one group, also to the same rank, and sums of other types have their own precision") {
  constexpr int ranks = 3;
  run_ranks(ranks, [&](ncclComm_t comm, int rank, cudaStream_t stream) {
    std::vector<int> out;
    for (int to = 0; to < ranks; ++to) out.push_back(10 * rank + to);
    Array<int> sent(out), got(ranks);
    ncclGroupStart();
    for (int peer = 0; peer < ranks; ++peer) {
      CHECK(ncclSend(sent.data + peer, 1, ncclInt32, peer, comm, stream) == ncclSuccess);
      CHECK(ncclRecv(got.data + peer, 1, ncclInt32, peer, comm, stream) == ncclSuccess);
    }
    CHECK(ncclGroupEnd() == ncclSuccess);
    cudaStreamSynchronize(stream);
    for (int from = 0; from < ranks; ++from) CHECK(got.values()[static_cast<std::size_t>(from)] == 10 * from + rank);
    Array<tessera::bfloat16> half(std::vector<tessera::bfloat16>(1, tessera::bfloat16(rank == 0 ? 256.0f : 0.5f)));
    CHECK(ncclAllReduce(half.data, half.data, 1, ncclBfloat16, ncclSum, comm, stream) == ncclSuccess);
    cudaStreamSynchronize(stream);
    CHECK(static_cast<float>(half.values()[0]) == 256.0f);  // 256.5 rounds down at every step
    CHECK(ncclCommDestroy(comm) == ncclSuccess);
  });
}

TEST_CASE("ncclRedOpCreatePreMulSum multiplies a rank's data by its factor and rounds to its type") {
  run_ranks(2, [&](ncclComm_t comm, int rank, cudaStream_t stream) {
    using tessera::float16;
    Array<float16> half(std::vector<float16>(1, float16(57344.0f))), sum(std::vector<float16>(1));
    float16 factor(rank == 0 ? 0.25f : 0.5f);
    ncclRedOp_t scaled = ncclSum, other = ncclSum;
    CHECK(ncclRedOpCreatePreMulSum(&scaled, &factor, ncclFloat16, ncclScalarHostImmediate, comm) == ncclSuccess);
    CHECK(ncclRedOpCreatePreMulSum(&other, &factor, ncclFloat16, ncclScalarHostImmediate, comm) == ncclSuccess);
    CHECK(scaled != other);
    CHECK(emulated::nccl_scaled_sums() >= 2);
    CHECK(ncclAllReduce(half.data, sum.data, 1, ncclFloat, scaled, comm, stream) == ncclInvalidArgument);
    CHECK(ncclAllReduce(half.data, sum.data, 1, ncclFloat16, scaled, comm, stream) == ncclSuccess);
    CHECK(ncclRedOpDestroy(scaled, comm) == ncclSuccess);  // the call that uses it has returned
    CHECK(ncclAllReduce(half.data, sum.data, 1, ncclFloat16, scaled, comm, stream) == ncclInvalidArgument);
    CHECK(ncclRedOpDestroy(scaled, comm) == ncclInvalidArgument);
    CHECK(ncclRedOpDestroy(other, comm) == ncclSuccess);
    cudaStreamSynchronize(stream);
    CHECK(static_cast<float>(sum.values()[0]) == 43008.0f);
    CHECK(static_cast<float>(half.values()[0]) == 57344.0f);
    CHECK(ncclCommDestroy(comm) == ncclSuccess);
  });
}

TEST_CASE("a missing or mismatching call hangs until the communicator is aborted, and then streams continue") {
  for (const bool disagrees : {false, true}) {
    run_ranks(2, [&](ncclComm_t comm, int rank, cudaStream_t stream) {
      Array<float> values(std::vector<float>(8, 1.0f));
      Event done;
      if (rank == 0 || disagrees) {
        const std::size_t n = rank == 0 ? 8 : 4;
        CHECK(ncclAllReduce(values.data, values.data, n, ncclFloat, ncclSum, comm, stream) == ncclSuccess);
      }
      cudaEventRecord(done, stream);
      std::thread watchdog([&] {
        bool seen = rank == 1 && !disagrees;
        for (int looks = 0; looks < 50 && !seen; ++looks) {
          seen = cudaEventQuery(done) == cudaSuccess;
          std::this_thread::yield();
        }
        CHECK(seen == (rank == 1 && !disagrees));
        CHECK(ncclCommAbort(comm) == ncclSuccess);
      });
      CHECK(cudaStreamSynchronize(stream) == cudaSuccess);
      watchdog.join();
      CHECK(values.values() == std::vector<float>(8, 1.0f));
    });
  }
  CHECK(emulated::nccl_communicators() == 0);
}

TEST_CASE("a non-blocking communicator may put a call on its stream later") {
  std::atomic<int> too_early{0};
  for (int seed = 0; seed < 20; ++seed) {
    emulated::seed(static_cast<std::uint64_t>(seed));
    for (const bool patient : {true, false}) {
      const auto rank_of = [&](ncclComm_t comm, int, cudaStream_t stream) {
        Array<float> values(std::vector<float>(1, 1.0f));
        ncclResult_t state = ncclAllReduce(values.data, values.data, 1, ncclFloat, ncclSum, comm, stream);
        while (patient && state == ncclInProgress) CHECK(ncclCommGetAsyncError(comm, &state) == ncclSuccess);
        if (!patient && state == ncclInProgress) {
          CHECK(cudaStreamSynchronize(stream) == cudaSuccess);  // it has no work
          if (values.values()[0] != 2) ++too_early;
          while (state == ncclInProgress) CHECK(ncclCommGetAsyncError(comm, &state) == ncclSuccess);
        }
        CHECK(cudaStreamSynchronize(stream) == cudaSuccess);
        CHECK(values.values()[0] == 2);
        CHECK(ncclCommFinalize(comm) == ncclSuccess);
        CHECK(ncclCommDestroy(comm) == ncclSuccess);
      };
      run_ranks(2, rank_of, 0);
    }
  }
  CHECK(too_early > 0);
}

TEST_CASE("children of a split are in the order of the calls, and a captured collective can be replayed") {
  run_ranks(2, [&](ncclComm_t parent, int rank, cudaStream_t stream) {
    ncclComm_t first = nullptr, second = nullptr;
    CHECK(ncclCommSplit(parent, 0, rank, &first, nullptr) == ncclSuccess);
    CHECK(ncclCommSplit(parent, 0, -rank, &second, nullptr) == ncclSuccess);
    int of_first = -1, of_second = -1;
    ncclCommUserRank(first, &of_first), ncclCommUserRank(second, &of_second);
    CHECK(of_first == rank);
    CHECK(of_second == 1 - rank);
    Array<float> values(std::vector<float>(1, 1.0f));
    cudaGraph_t graph = nullptr;
    cudaGraphExec_t exec = nullptr;
    REQUIRE(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal) == cudaSuccess);
    CHECK(ncclAllReduce(values.data, values.data, 1, ncclFloat, ncclSum, first, stream) == ncclSuccess);
    REQUIRE(cudaStreamEndCapture(stream, &graph) == cudaSuccess);
    REQUIRE(cudaGraphInstantiate(&exec, graph, 0) == cudaSuccess);
    for (int times = 0; times < 3; ++times) CHECK(cudaGraphLaunch(exec, stream) == cudaSuccess);
    CHECK(ncclAllReduce(values.data, values.data, 1, ncclFloat, ncclSum, second, stream) == ncclSuccess);
    CHECK(cudaStreamSynchronize(stream) == cudaSuccess);
    CHECK(values.values()[0] == 16);
    cudaGraphExecDestroy(exec), cudaGraphDestroy(graph);
    for (ncclComm_t comm : {first, second, parent}) CHECK(ncclCommDestroy(comm) == ncclSuccess);
  });
}

TEST_CASE("a communicator is destroyed with the last graph that has calls of it, not before") {
  run_ranks(
      1,
      [&](ncclComm_t comm, int, cudaStream_t stream) {
        Array<float> values(1);
        cudaGraph_t graph = nullptr;
        REQUIRE(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal) == cudaSuccess);
        CHECK(ncclAllReduce(values.data, values.data, 1, ncclFloat, ncclSum, comm, stream) == ncclSuccess);
        REQUIRE(cudaStreamEndCapture(stream, &graph) == cudaSuccess);
        ncclResult_t state = ncclCommFinalize(comm);
        for (int looks = 0; looks < 10; ++looks) {
          CHECK(state == ncclInProgress);
          CHECK(ncclCommGetAsyncError(comm, &state) == ncclSuccess);
        }
        std::atomic<bool> over{false};
        std::thread abort([&] {
          CHECK(ncclCommAbort(comm) == ncclSuccess);
          over = true;
        });
        std::this_thread::sleep_for(std::chrono::milliseconds(5));
        CHECK_FALSE(over);
        cudaGraphDestroy(graph);
        abort.join();
      },
      0);
}

TEST_CASE(
    "two ranks on one device, host memory and overlapping ranges are rejected; use after destruction aborts") {
  ncclUniqueId id;
  ncclGetUniqueId(&id);
  ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
  config.blocking = 0;
  ncclComm_t comms[2];
  CHECK(ncclCommInitRankConfig(&comms[0], 2, id, 0, &config) == ncclInProgress);
  CHECK(ncclCommInitRankConfig(&comms[1], 2, id, 1, &config) == ncclInvalidUsage);
  for (ncclComm_t comm : comms) ncclCommAbort(comm);
  CHECK(signal_of([&] { ncclCommAbort(comms[0]); }) == SIGABRT);
  run_ranks(2, [&](ncclComm_t comm, int, cudaStream_t stream) {
    Array<float> values(8);
    float plain[4];
    CHECK(ncclAllReduce(plain, values.data, 4, ncclFloat, ncclSum, comm, stream) == ncclInvalidArgument);
    CHECK(ncclAllReduce(values.data, values.data + 6, 4, ncclFloat, ncclSum, comm, stream) == ncclInvalidArgument);
    CHECK(ncclAllGather(values.data + 1, values.data, 4, ncclFloat, comm, stream) == ncclInvalidArgument);
    void *memory = nullptr, *registration = nullptr;
    ncclWindow_t window;
    CHECK(ncclMemAlloc(&memory, 100) == ncclSuccess);
    CHECK(ncclCommWindowRegister(comm, values.data, 16, &window, NCCL_WIN_COLL_SYMMETRIC) == ncclInvalidArgument);
    CHECK(ncclCommWindowRegister(comm, memory, 100, &window, NCCL_WIN_COLL_SYMMETRIC) == ncclSuccess);
    CHECK(ncclCommRegister(comm, memory, 100, &registration) == ncclSuccess);
    CHECK(emulated::nccl_registrations() >= 2);
    CHECK(ncclCommDeregister(comm, registration) == ncclSuccess);
    CHECK(ncclCommWindowDeregister(comm, window) == ncclSuccess);
    CHECK(cudaFree(memory) == cudaErrorInvalidValue);
    CHECK(ncclMemFree(memory) == ncclSuccess);
    CHECK(ncclCommDestroy(comm) == ncclSuccess);
  });
}

}  // namespace emulated_test
