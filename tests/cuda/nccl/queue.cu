#include <cuda_runtime.h>
#include <doctest/doctest.h>
#include <nccl.h>

#include <atomic>
#include <chrono>
#include <string>
#include <thread>
#include <vector>

#include <tessera/core/clock.hpp>
#include <tessera/cuda/nccl/queue.cuh>

#include "comm/local/cases.hpp"
#include "cuda/nccl_ranks.hpp"
#include "cuda/ranks.hpp"

namespace tessera {
namespace {

namespace cases = local_cases;
using cases::contains;
using cases::Floats;
using testing::errors_of_ranks;
using testing::run_nccl_ranks;
using AnyOrder = testing::OverNccl<Nccl>;
using Memory = testing::DeviceMemory<float>;

constexpr std::chrono::nanoseconds patient = std::chrono::seconds(30);

static_assert(CommunicationQueue<nccl::Queue>);

// Sums of small integers are exact in any order.
template <class T>
std::vector<T> counted(index_t n, int rank) {
  std::vector<T> values;
  for (index_t i = 0; i < n; ++i) values.push_back(T(static_cast<float>((i * 7 + rank * 3) % 16)));
  return values;
}
template <class T>
T sum_of_counted(index_t i, int world) {
  float sum = 0;
  for (int r = 0; r < world; ++r) sum += static_cast<float>((i * 7 + r * 3) % 16);
  return T(sum);
}

template <class In, class Out>
void check_reduce_scatter(Nccl& comm, float scale = 1) {
  auto queue = comm.queue(patient);
  auto memory = comm.executor().allocate<float>(8 * 300);
  const auto workspace = std::as_writable_bytes(memory.span());
  const auto made = comm.executor().record();
  bool right = true;
  cases::for_every_size(comm.size(), [&](index_t part, index_t elements) {
    const Slice own(elements, part, comm.rank());
    testing::DeviceMemory<In> in(counted<In>(elements, comm.rank()));
    testing::DeviceMemory<Out> out(std::vector<Out>(static_cast<std::size_t>(part), Out(-1.0f)));
    queue.post(ReduceScatter(in.in(), out.out(), part, {"g", part, elements}, scale, workspace), made).wait();
    const auto sums = out.get();
    for (index_t i = 0; i < part; ++i) {
      const Out wanted = i < own.size ? Out(scale * sum_of_counted<float>(own.begin + i, comm.size())) : Out(-1.0f);
      right &= static_cast<float>(sums[static_cast<std::size_t>(i)]) == static_cast<float>(wanted);
    }
    if constexpr (std::same_as<In, Out>) {
      queue.post(ReduceScatter(in.in(), in.out().subspan(own.begin, own.size), part, {"in place", 0, 0})).wait();
      const auto all = in.get(), before = counted<In>(elements, comm.rank());
      for (index_t i = 0; i < elements; ++i) {
        const bool mine = i >= own.begin && i < own.begin + own.size;
        const In wanted = mine ? sum_of_counted<In>(i, comm.size()) : before[static_cast<std::size_t>(i)];
        right &= static_cast<float>(all[static_cast<std::size_t>(i)]) == static_cast<float>(wanted);
      }
    }
  });
  CHECK(right);
}

TEST_CASE("reduce_scatter sums every type, with complete, shorter and empty slices, also in place") {
  for (int world = 1; world <= 4; ++world)
    run_nccl_ranks(world, [](Nccl& comm) {
      check_reduce_scatter<float, float>(comm);
      check_reduce_scatter<bfloat16, bfloat16>(comm);
      check_reduce_scatter<float16, float16>(comm);
      check_reduce_scatter<bfloat16, float>(comm);
      check_reduce_scatter<float16, float>(comm);
    });
}

TEST_CASE("reduce_scatter multiplies by its scale; NCCL's sum multiplies each rank's data") {
  for (int world = 1; world <= 3; ++world)
    run_nccl_ranks(world, [](Nccl& comm) {
      check_reduce_scatter<float, float>(comm, 0.25f);
      check_reduce_scatter<bfloat16, bfloat16>(comm, 0.25f);
      check_reduce_scatter<float16, float16>(comm, 0.25f);
      check_reduce_scatter<float16, float>(comm, 0.25f);
    });
  run_nccl_ranks(4, [](Nccl& comm) {
    auto queue = comm.queue(patient);
    testing::DeviceMemory<float16> large(std::vector<float16>(256, float16(60000.0f)));
    testing::DeviceMemory<float16> mean(std::vector<float16>(64));
    queue.post(ReduceScatter(large.in(), mean.out(), 64, {"g", 0, 0}, 0.25f), comm.executor().record()).wait();
    bool right = true;
    for (const float16 x : mean.get()) right &= static_cast<float>(x) == 60000.0f;  // their sum is infinite
    CHECK(right);
  });
}

TEST_CASE("all_reduce sums floats, and integers modulo 2^64") {
  run_nccl_ranks(3, [](Nccl& comm) {
    auto queue = comm.queue(patient);
    for (const index_t n : {0, 1, 1000}) {
      const auto size = static_cast<std::size_t>(n);
      Memory x(counted<float>(n, comm.rank()));
      testing::DeviceMemory<double> y(std::vector<double>(size, 0.5 + comm.rank()));
      testing::DeviceMemory<std::uint64_t> u(std::vector<std::uint64_t>(size, ~std::uint64_t{0}));
      testing::DeviceMemory<std::int64_t> s(std::vector<std::int64_t>(size, -comm.rank()));
      queue.post(AllReduce(x.out(), {"x", 0, 0}));
      queue.post(AllReduce(y.out(), {"y", 0, 0}));
      queue.post(AllReduce(u.out(), {"u", 0, 0}));
      queue.post(AllReduce(s.out(), {"s", 0, 0})).wait();
      bool right = y.get() == std::vector<double>(size, 4.5) && s.get() == std::vector<std::int64_t>(size, -3) &&
                   u.get() == std::vector<std::uint64_t>(size, std::uint64_t{0} - 3);
      const Floats sums = x.get();
      for (index_t i = 0; i < n; ++i) right &= sums[static_cast<std::size_t>(i)] == sum_of_counted<float>(i, 3);
      CHECK(right);
    }
  });
}

TEST_CASE("all_gather writes every slice to its offset and truncates the last ones, also in place") {
  cases::all_gather_puts_every_slice_at_its_place<AnyOrder>();
}
TEST_CASE("all_to_all transposes, and broadcast copies the root's data") {
  cases::all_to_all_transposes_and_broadcast_copies<AnyOrder>();
}
TEST_CASE("in groups, a rank gets the slice that divides its group's, by NCCL's own sums too") {
  for (const int size : {1, 2, 4})
    run_nccl_ranks(4, [size](Nccl& comm) {
      auto queue = comm.queue(patient);
      for (const index_t elements : {256, 200, 65, 3}) {
        testing::DeviceMemory<float> in(counted<float>(elements, comm.rank())), out(std::vector<float>(64));
        ReduceScatter sum(in.in(), out.out(), 64, {"g", 0, 0});
        sum.group_size = size;
        queue.post(sum, comm.executor().record()).wait();
        const Slice own(elements, 64, core::Groups{4, size}.slice(Ranks::world, comm.rank()));
        const std::vector<float> got = out.get();
        bool right = true;
        for (index_t i = 0; i < own.size; ++i)
          right &= got[static_cast<std::size_t>(i)] == sum_of_counted<float>(own.begin + i, 4);
        CHECK(right);
      }
    });
}

TEST_CASE("of calls over groups and peers NCCL gathers, and refuses the others before anything is sent") {
  run_nccl_ranks(4, [](Nccl& comm) {
    auto queue = comm.queue(patient);
    testing::DeviceMemory<float> x(std::vector<float>(4));
    AllReduce sum(x.out(), {"x", 0, 0});
    sum.over = Ranks::group;
    sum.group_size = 2;
    CHECK_THROWS_WITH_AS(queue.post(sum), doctest::Contains("all_reduce over groups of 2 ranks (x 0, pass 0): Nccl only gathers"),
                         OptionError);
  });
}

TEST_CASE("calls that are posted together are one group of NCCL's") {
  cases::calls_posted_together_are_done_in_their_order<AnyOrder>();
  run_nccl_ranks(2, [](Nccl& comm) {
    Memory x(Floats(4)), y(Floats(4));  // must outlive the queue
    auto queue = comm.queue(testing::impatient);
    const std::vector<AllReduce<float>> calls{{x.out(), {"x", 0, 0}}, {y.out().first(1), {"y", 0, 0}}};
    queue.post(std::span<const AllReduce<float>>(calls)).wait();
    if (comm.rank() == 1) return;
    std::string error;
    try {
      queue.post(std::span<const AllReduce<float>>(calls)).wait();
    } catch (const CommError& caught) {
      error = caught.what();
    }
    CHECK(contains(error, "all_reduce of 4 and 1 float (x 0, pass 0), operation 1, was not done"));
  });
}
TEST_CASE("posting does not wait for other ranks, and operations run in the order of posting") {
  cases::posting_does_not_wait<AnyOrder>();
}
TEST_CASE("a collective starts after its event") {
  cases::a_collective_starts_after_its_event<AnyOrder>();
}
TEST_CASE(
    "a call that is not valid is refused before anything is sent") { cases::what_does_not_fit_is_refused<AnyOrder>(); }

struct Fill {
  float* first;
  float value;
  TESSERA_HD void operator()(index_t i) const noexcept { first[i] = value; }
};
struct Double {
  float* first;
  TESSERA_HD void operator()(index_t i) const noexcept { first[i] *= 2; }
};

// The host does not wait between the first write and the last read.
TEST_CASE(
    "a collective waits for the compute stream, and the compute stream for the collective, however late either is") {
  for (int round = 0; round < 10; ++round)
    run_nccl_ranks(2, [&](Nccl& nccl) {
      const CudaStream compute;
      const Nccl comm = nccl.on(compute.get());
      Cuda executor = comm.executor();
      CHECK(executor.stream() == compute.get());
      auto queue = comm.queue(patient);
      auto x = executor.allocate<float>(1000);
      if (round % 2 == 0) testing::delay(compute.get());
      executor.for_each(1000, Fill{x.span().data(), 1.0f + static_cast<float>(comm.rank())});
      executor.wait(queue.post(AllReduce(x.span(), {"x", 0, 0}), executor.record()));
      executor.for_each(1000, Double{x.span().data()});
      Floats got(1000);
      executor.download(std::as_const(x).span(), got.data());
      CHECK(got == Floats(1000, 6.0f));
    });
}

TEST_CASE("if a rank makes another call or none, the others get an error that names their call") {
  for (const bool missing : {true, false}) {
    const auto errors = errors_of_ranks(3, [&](Nccl& comm) {
      Memory x(Floats(4096)), y(Floats(1366));
      const bool odd = comm.rank() == 2;
      auto queue = comm.queue(testing::impatient);
      queue.post(AllReduce(x.out(), {"warm", 0, 0})).wait();
      if (odd) {
        if (!missing) CHECK_THROWS_AS(queue.post(AllReduce(x.out(), {"norm", 0, 0})).wait(), CommError);
        return;
      }
      queue.post(AllGather(y.in(), x.out(), 1366, {"parameters of bucket", 3, 2})).wait();
    });
    for (std::size_t r = 0; r < 2 && r < errors.size(); ++r)
      CHECK(errors[r] ==
            message({"all_gather of 4096 float in parts of 1366 (parameters of bucket 3, pass 2), operation 1, was not "
                     "done after ",
                     core::seconds_of(testing::impatient),
                     " s: a rank is missing or made a different call; communicator aborted"}));
  }
}

TEST_CASE("after a failure every call and wait throws it, and after every rank has dropped a new epoch works") {
  std::atomic<int> gone = 0;
  run_nccl_ranks(3, [&](Nccl& comm) {
    auto queue = comm.queue(comm.rank() == 0 ? patient : testing::impatient);
    Memory x(Floats(10, 1.0f)), lost(Floats(10, 1.0f));
    queue.post(AllReduce(x.out(), {"x", 0, 0})).wait();
    if (comm.rank() == 0) {
      while (gone < 2) std::this_thread::yield();
    } else {
      const auto event = queue.post(AllReduce(lost.out(), {"x", 1, 0}));
      std::string first, second;
      try {
        event.wait();
      } catch (const CommError& error) {
        first = error.what();
      }
      try {
        queue.post(AllReduce(lost.out(), {"x", 2, 0}));
      } catch (const CommError& error) {
        second = error.what();
      }
      CHECK(contains(first, "all_reduce of 10 float (x 1, pass 0), operation 1, was not done"));
      CHECK(first == second);
      CHECK_THROWS_AS(Cuda(comm.executor()).wait(event), CommError);
      ++gone;
    }
    queue.drop();
    queue.post(AllReduce(x.out(), {"x", 3, 0})).wait();
    CHECK(x.get() == Floats(10, 9.0f));
  });
}

TEST_CASE("a drop waits for calls that others still join, without a failure") {
  run_nccl_ranks(2, [](Nccl& comm) {
    auto queue = comm.queue(patient);
    Memory x(Floats(10, 1.0f));
    for (int round = 0; round < 3; ++round) {
      if (comm.rank() == 1) std::this_thread::sleep_for(std::chrono::milliseconds(5));
      const auto event = queue.post(AllReduce(x.out(), {"x", round, 0}));
      queue.drop();
      CHECK(event.done());
    }
    CHECK(x.get() == Floats(10, 8.0f));
  });
}

TEST_CASE("two queues make progress independently of each other") {
  run_nccl_ranks(2, [](Nccl& comm) {
    auto first = comm.queue(patient), second = comm.queue(patient);
    Memory x(Floats(10, 1.0f)), y(Floats(10, 1.0f));
    CudaEvent one;
    if (comm.rank() == 0) one = first.post(AllReduce(x.out(), {"x", 0, 0}));
    second.post(AllReduce(y.out(), {"y", 0, 0})).wait();
    if (comm.rank() == 1) one = first.post(AllReduce(x.out(), {"x", 0, 0}));
    one.wait();
    CHECK(x.get() == y.get());
  });
}

TEST_CASE("collectives are captured in a graph that can be launched repeatedly") {
  run_nccl_ranks(2, [](Nccl& nccl) {
    const CudaStream compute;
    const Nccl comm = nccl.on(compute.get());
    Cuda executor = comm.executor();
    auto queue = comm.queue(patient);
    auto workspace = executor.allocate<float>(200);
    auto x = executor.allocate<float>(100);
    auto narrow = executor.allocate<bfloat16>(200);
    auto sum = executor.allocate<float>(100);
    executor.upload(narrow.span(), std::vector<bfloat16>(200, bfloat16(2.0f)).data());
    const auto step = [&] {
      executor.wait(queue.post(AllReduce(x.span(), {"x", 0, 0}), executor.record()));
      executor.wait(
          queue.post(ReduceScatter(std::as_const(narrow).span(), sum.span(), 100, {"g", 0, 0}, 1,
                                   std::as_writable_bytes(workspace.span())),
                     executor.record()));
    };
    step();  // connects
    executor.upload(x.span(), Floats(100, 1.0f).data());
    cudaGraph_t graph = nullptr;
    cudaGraphExec_t executable = nullptr;
    cuda_check(cudaStreamBeginCapture(compute.get(), cudaStreamCaptureModeThreadLocal), "capturing");
    step();
    cuda_check(cudaStreamEndCapture(compute.get(), &graph), "capturing");
    cuda_check(cudaGraphInstantiate(&executable, graph, 0), "instantiating");
    for (int launch = 0; launch < 3; ++launch) cuda_check(cudaGraphLaunch(executable, compute.get()), "launching");
    Floats got(100), sums(100);
    executor.download(std::as_const(x).span(), got.data());
    executor.download(std::as_const(sum).span(), sums.data());
    CHECK(got == Floats(100, 8.0f));
    CHECK(sums == Floats(100, 4.0f));
    cudaGraphExecDestroy(executable);
    cudaGraphDestroy(graph);
  });
}

// NCCL destroys no communicator before the graphs that refer to it.
TEST_CASE("a graph may be destroyed after the queue of its collectives: neither drop nor the destructor waits for it") {
  const std::size_t before = testing::communicators();
  std::vector<cudaGraph_t> graphs(2);
  run_nccl_ranks(2, [&](Nccl& nccl) {
    const CudaStream compute;
    const Nccl comm = nccl.on(compute.get());
    Cuda executor = comm.executor();
    auto queue = comm.queue(patient);
    auto x = executor.allocate<float>(100);
    const auto sum = [&] { executor.wait(queue.post(AllReduce(x.span(), {"x", 0, 0}), executor.record())); };
    sum();
    executor.record().wait();
    cuda_check(cudaStreamBeginCapture(compute.get(), cudaStreamCaptureModeThreadLocal), "capturing");
    sum();
    cuda_check(cudaStreamEndCapture(compute.get(), &graphs[static_cast<std::size_t>(comm.rank())]), "capturing");
    const core::Clock::time_point begin = core::Clock::now();
    queue.drop();
    sum();
    queue.drop();
    sum();  // the first epoch's communicator is not used any more
    executor.record().wait();
    CHECK(core::Clock::now() - begin < nccl::goodbye);
  });
  for (const cudaGraph_t graph : graphs)
    if (graph) cudaGraphDestroy(graph);
  while (testing::communicators() > before) std::this_thread::yield();  // on detached threads
}

TEST_CASE("a failure is reported at once, although a graph still refers to the aborted communicator") {
  const std::size_t before = testing::communicators();
  std::vector<cudaGraph_t> graphs(2);
  const auto errors = errors_of_ranks(2, [&](Nccl& nccl) {
    const CudaStream compute;
    const Nccl comm = nccl.on(compute.get());
    Cuda executor = comm.executor();
    auto x = executor.allocate<float>(100);
    auto queue = comm.queue(testing::impatient);
    const auto sum = [&] { return queue.post(AllReduce(x.span(), {"x", 0, 0}), executor.record()); };
    sum().wait();
    cuda_check(cudaStreamBeginCapture(compute.get(), cudaStreamCaptureModeThreadLocal), "capturing");
    executor.wait(sum());
    cuda_check(cudaStreamEndCapture(compute.get(), &graphs[static_cast<std::size_t>(comm.rank())]), "capturing");
    if (comm.rank() == 0) sum().wait();
  });
  if (!errors.empty()) CHECK(contains(errors[0], "was not done after"));
  for (const cudaGraph_t graph : graphs)
    if (graph) cudaGraphDestroy(graph);
  while (testing::communicators() > before) std::this_thread::yield();  // on detached threads
}

}  // namespace
}  // namespace tessera
