#include <cuda_runtime.h>
#include <doctest/doctest.h>

#include <atomic>
#include <string>
#include <thread>
#include <vector>

#include <tessera/cuda/local/local.cuh>

#include "comm/local/cases.hpp"
#include "cuda/ranks.hpp"

namespace tessera {
namespace {

static_assert(Communicator<CudaLocal> && CudaLocal::ordered);
static_assert(!std::movable<CudaLocal::Queue>);

namespace cases = local_cases;
using cases::Floats;
using testing::delay;
using Memory = testing::DeviceMemory<float>;

// The ranks on one device, and on all devices.
struct OnDevice {
  using Comm = CudaLocal;
  template <class T>
  using Memory = testing::DeviceMemory<T>;

  template <class F>
  static void run_once(int world, F f) {
    run_cuda_ranks(world, f, {.devices = {0}});
  }
  template <class F>
  static void run(int world, F f) {
    run_once(world, f);
    if (world > 1 && devices() > 1) run_cuda_ranks(world, f);
  }

  static int devices() {
    int count = 0;
    REQUIRE(cudaGetDeviceCount(&count) == cudaSuccess);
    return count;
  }
};

TEST_CASE("reduce_scatter sums in the fixed tree, with complete, shorter and empty slices, also in place") {
  cases::reduce_scatter_sums_in_the_tree<OnDevice>();
}
TEST_CASE("bfloat16 is summed in float and rounded once") { cases::bfloat16_is_summed_in_float<OnDevice>(); }
TEST_CASE("sums are scaled in float before they are rounded, also in place") {
  cases::sums_are_scaled_in_float_before_they_are_rounded<OnDevice>();
}
TEST_CASE("all_gather writes every slice to its offset and truncates the last ones, also in place") {
  cases::all_gather_puts_every_slice_at_its_place<OnDevice>();
}
TEST_CASE("each group and each set of peers gathers its own vector") {
  cases::groups_and_peers_gather_among_themselves<OnDevice>();
}
TEST_CASE("in groups, a rank gets the piece of its group's slice of the world's sum that it owns") {
  cases::in_groups_a_rank_gets_the_slice_that_divides_its_groups<OnDevice>();
}
TEST_CASE("all_reduce, all_to_all and broadcast span groups and peers too") {
  cases::other_calls_span_groups_and_peers_too<OnDevice>();
}
TEST_CASE("all_reduce sums floats in the tree, and integers modulo 2^64") {
  cases::all_reduce_sums_floats_and_integers<OnDevice>();
}
TEST_CASE("all_to_all transposes, and broadcast copies the root's data") {
  cases::all_to_all_transposes_and_broadcast_copies<OnDevice>();
}
TEST_CASE("a call of several pieces handles each of them, also shorter and empty ones") {
  cases::a_call_of_several_pieces_does_each_of_them<OnDevice>();
}
TEST_CASE("a sum continues from call to call, with the bits of one call over all leaves") {
  cases::a_sum_goes_on_from_call_to_call<OnDevice>();
}
TEST_CASE("if ranks continue a sum differently, all get an error") {
  cases::ranks_that_continue_a_sum_differently_all_learn_of_it<OnDevice>();
}
TEST_CASE("calls that are posted together run in their order") {
  cases::calls_posted_together_are_done_in_their_order<OnDevice>();
}
TEST_CASE("posting does not wait for other ranks, and operations run in the order of posting") {
  cases::posting_does_not_wait<OnDevice>();
}
TEST_CASE("a collective starts after its event") {
  cases::a_collective_starts_after_its_event<OnDevice>();
}
TEST_CASE("two queues that two ranks use in opposite order do not deadlock") {
  cases::queues_in_opposite_order_do_not_deadlock<OnDevice>();
}
TEST_CASE("if a rank makes another call, every rank gets an error that names both ranks and both calls") {
  cases::another_call_is_named_to_every_rank<OnDevice>();
}
TEST_CASE("a different root is found too") { cases::another_root_is_found<OnDevice>(); }
TEST_CASE("a wait longer than the timeout names the missing ranks and each rank's position, on all ranks") {
  cases::a_long_wait_names_who_is_missing_and_where_each_rank_is<OnDevice>();
}
TEST_CASE("if all ranks wait for each other's calls, each gets an error at once with all positions") {
  cases::ranks_that_all_wait_for_each_other_are_told_at_once<OnDevice>();
}
TEST_CASE("a rank that throws ends the others' waits at once with its name and message, and its error is rethrown") {
  cases::a_rank_that_throws_wakes_the_others<OnDevice>();
}
TEST_CASE("an error that only reports another rank's error is not rethrown as the cause") {
  cases::who_only_heard_of_an_error_is_not_its_cause<OnDevice>();
}
TEST_CASE("a rank that returns while others wait for it is named") { cases::a_rank_that_returns_is_named<OnDevice>(); }
TEST_CASE("a queue that is destroyed is reported to its peers as having left") {
  cases::a_queue_that_ends_has_left<OnDevice>();
}
TEST_CASE("a rank that leaves a queue is reported as having left, whether or not it had joined the collective") {
  cases::who_leaves_a_queue_is_said_to_have_left<OnDevice>();
}
TEST_CASE("ranks in a dropped epoch get an error that names who dropped, and the next epoch works") {
  cases::a_dropped_epoch_is_named_and_the_next_is_clean<OnDevice>();
}
TEST_CASE("all ranks may drop at different positions and start again together") {
  cases::ranks_may_all_drop_and_start_again<OnDevice>();
}
TEST_CASE("if a rank catches its own exception after dropping, the others do not wait for it") {
  cases::a_rank_that_caught_its_own_error_goes_on<OnDevice>();
}
TEST_CASE("a queue may be destroyed while its collectives are in flight, and buffers after it") {
  cases::a_queue_may_end_with_collectives_in_flight<OnDevice>();
}
TEST_CASE("after a failure every later call of every rank throws it") {
  cases::after_a_failure_every_call_throws_it<OnDevice>();
}
TEST_CASE(
    "a call that is not valid is refused before anything is sent") { cases::what_does_not_fit_is_refused<OnDevice>(); }

// --- only with devices ----------------------------------------------------------------------------------------------

struct Fill {
  float* to;
  float value;
  TESSERA_HD void operator()(index_t i) const noexcept { to[i] = value; }
};

struct Copy {
  const float* from;
  float* to;
  TESSERA_HD void operator()(index_t i) const noexcept { to[i] = from[i]; }
};

// Runs f(comm, executor, late), on one device and on several. In each run another rank's compute stream is delayed,
// from late() on.
template <class F>
void with_each_rank_late(F f) {
  const testing::SeveralDevices several;
  for (int late = 0; late < 4; ++late)
    OnDevice::run(4, [&](CudaLocal& comm) {
      Cuda executor = comm.executor();
      f(comm, executor, [&] {
        if (comm.rank() == late) delay(executor.stream());
      });
    });
}

TEST_CASE("no device begins before the data of all ranks is complete") {
  with_each_rank_late([](CudaLocal& comm, Cuda& executor, auto late) {
    Memory x(Floats(3000, 100)), out(Floats(3000));
    auto queue = comm.queue(cases::seconds(30));
    late();
    executor.for_each(3000, Fill{x.out().data(), 1.0f + comm.rank()});
    const CudaEvent event = queue.post(AllReduce(x.out(), {"x", 0, 0}), executor.record());
    executor.wait(event);
    executor.for_each(3000, Copy{x.in().data(), out.out().data()});
    executor.record().wait();
    CHECK(out.get() == Floats(3000, 10));
  });
}

TEST_CASE("a rank may write its input again only after every device has read it") {
  with_each_rank_late([](CudaLocal& comm, Cuda& executor, auto late) {
    const index_t part = 700;
    Memory in(Floats(4 * part, 1.0f + comm.rank())), out{Floats(part)};
    auto queue = comm.queue(cases::seconds(30));
    late();
    executor.wait(queue.post(ReduceScatter(in.in(), out.out(), part, {"g", 0, 0}), executor.record()));
    executor.for_each(4 * part, Fill{in.out().data(), 1000});
    executor.record().wait();
    CHECK(out.get() == Floats(part, 10));
  });
}

TEST_CASE("a collective begins after the previous one has ended on every device, without a wait in between") {
  with_each_rank_late([](CudaLocal& comm, Cuda& executor, auto late) {
    const index_t part = 700;
    Memory vector(Floats(4 * part, 1.0f + comm.rank())), slice{Floats(part)};
    auto queue = comm.queue(cases::seconds(30));
    late();
    CudaEvent event = executor.record();
    for (int round = 0; round < 3; ++round) {
      queue.post(ReduceScatter(vector.in(), slice.out(), part, {"g", round, 0}), event);
      event = queue.post(AllGather(slice.in(), vector.out(), part, {"p", round, 0}));
    }
    event.wait();
    CHECK(vector.get() == Floats(4 * part, 160));  // 10, then four times as much, twice
  });
}

// A meeting of the ranks' threads. A stream continues after hold() when all threads have arrived, or after 5 seconds if
// they wait for the stream instead (in_vain).
struct Meeting {
  int ranks;
  std::atomic<int> came = 0;
  std::atomic<bool> in_vain = false;

  void come() {
    ++came;
    while (came < ranks) std::this_thread::yield();
  }
  static void hold(void* meeting) {
    Meeting& self = *static_cast<Meeting*>(meeting);
    for (int ms = 0; ms < 5000 && self.came < self.ranks; ++ms) std::this_thread::sleep_for(cases::milliseconds(1));
    if (self.came < self.ranks) self.in_vain = true;
  }
};

TEST_CASE("posting waits for no device, and waiting for an event waits only for the other ranks' posting") {
  Meeting ready{2}, posted{2};
  OnDevice::run_once(2, [&](CudaLocal& comm) {
    Cuda executor = comm.executor();
    Memory x(Floats(100, 1));
    auto queue = comm.queue(cases::seconds(30));
    const auto double_and_sum = [&] {
      executor.for_each(100, Fill{x.out().data(), 2});
      const CudaEvent event = queue.post(AllReduce(x.out(), {"x", 0, 0}), executor.record());
      executor.wait(event);
      return event;
    };
    double_and_sum().wait();  // the runtime may wait for the device when it loads a kernel
    ready.come();
    REQUIRE(cudaLaunchHostFunc(executor.stream(), Meeting::hold, &posted) == cudaSuccess);
    const CudaEvent event = double_and_sum();
    posted.come();
    event.wait();
    CHECK(event.done());
    CHECK(x.get() == Floats(100, 4));
  });
  CHECK_FALSE(posted.in_vain);
}

TEST_CASE("after a drop nothing accesses this rank's memory, also if joined collectives were not done yet") {
  with_each_rank_late([](CudaLocal& comm, Cuda& executor, auto late) {
    Memory x(Floats(2000, 1));
    auto queue = comm.queue(cases::seconds(30));
    late();
    const CudaEvent event = queue.post(AllReduce(x.out(), {"x", 0, 0}), executor.record());
    executor.wait(event);  // all ranks have joined it
    queue.drop();
    CHECK(event.done());
    CHECK(x.get() == Floats(2000, 4));
  });
}

TEST_CASE("a rank may use the caller's stream") {
  run_cuda_ranks(2, [](CudaLocal& given) {
    cudaStream_t stream = nullptr;
    REQUIRE(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking) == cudaSuccess);
    {
      CudaLocal comm = given.on(stream);
      CHECK(comm.rank() == given.rank());
      CHECK(comm.executor().stream() == stream);
      CHECK(comm.executor().device() == given.executor().device());
      Memory x(Floats(100, 1));
      auto queue = comm.queue(cases::seconds(30));
      delay(stream);
      comm.executor().for_each(100, Fill{x.out().data(), 2});
      queue.post(AllReduce(x.out(), {"x", 0, 0}), comm.executor().record()).wait();
      CHECK(x.get() == Floats(100, 4));
    }
    cudaStreamDestroy(stream);
  });
}

TEST_CASE("ranks are distributed over the given devices, or over all devices") {
  const testing::SeveralDevices several;
  const int count = OnDevice::devices();
  run_cuda_ranks(5, [&](CudaLocal& comm) {
    int current = -1;
    CHECK(cudaGetDevice(&current) == cudaSuccess);
    CHECK(current == comm.rank() % count);
    CHECK(comm.executor().device() == current);
  });
  run_cuda_ranks(3, [&](CudaLocal& comm) { CHECK(comm.executor().device() == count - 1); }, {.devices = {count - 1}});
}

TEST_CASE("every collective has the same bits on several devices as on one") {
  const testing::SeveralDevices several;
  cases::reduce_scatter_sums_in_the_tree<OnDevice>();
  cases::sums_are_scaled_in_float_before_they_are_rounded<OnDevice>();
  cases::all_gather_puts_every_slice_at_its_place<OnDevice>();
  cases::all_reduce_sums_floats_and_integers<OnDevice>();
  cases::all_to_all_transposes_and_broadcast_copies<OnDevice>();
}

TEST_CASE("a number of ranks without a special kernel sums in the same tree") {
  for (const int world : {9, 16, collectives::most_ranks})
    OnDevice::run_once(world, [&](CudaLocal& comm) {
      auto queue = comm.queue(cases::seconds(30));
      const index_t part = 4, elements = world * part - 3;
      Floats values;
      for (index_t i = 0; i < elements; ++i) values.push_back(cases::made_up(comm.rank(), i));
      Memory in(values), out(Floats(part, -1));
      queue.post(ReduceScatter(in.in(), out.out(), part, {"g", 0, 0})).wait();
      const Slice own(elements, part, comm.rank());
      const Floats sums = out.get();
      bool right = true;
      for (index_t i = 0; i < own.size; ++i) right &= sums[i] == cases::sum_at(world, own.begin + i);
      CHECK(right);
    });
}

TEST_CASE("capture in a graph is refused, since the threads of other ranks take part in a collective") {
  run_cuda_ranks(1, [](CudaLocal& comm) {
    Cuda executor = comm.executor();
    Memory x(Floats(4));
    auto queue = comm.queue(cases::seconds(30));
    REQUIRE(cudaStreamBeginCapture(executor.stream(), cudaStreamCaptureModeThreadLocal) == cudaSuccess);
    const CudaEvent captured = executor.record();
    CHECK_THROWS_WITH_AS(queue.post(AllReduce(x.out(), {"norm of step", 5, 6}), captured),
                         "all_reduce of 4 float (norm of step 5, pass 6): CudaLocal cannot be captured in a CUDA "
                         "graph; CudaSelf and Nccl can",
                         UsageError);
    cudaGraph_t graph = nullptr;
    REQUIRE(cudaStreamEndCapture(executor.stream(), &graph) == cudaSuccess);
    cudaGraphDestroy(graph);
  });
}

TEST_CASE("run_cuda_ranks refuses too few and too many ranks, and unknown devices") {
  CHECK_THROWS_WITH_AS(run_cuda_ranks(0, [](CudaLocal&) {}), "run_cuda_ranks: there must be 1 to 64 ranks, not 0",
                       OptionError);
  CHECK_THROWS_WITH_AS(run_cuda_ranks(65, [](CudaLocal&) {}), "run_cuda_ranks: there must be 1 to 64 ranks, not 65",
                       OptionError);
  const int count = OnDevice::devices();
  CHECK_THROWS_WITH_AS(run_cuda_ranks(2, [](CudaLocal&) {}, {.devices = {0, count}}),
                       doctest::Contains(("there is no CUDA device " + std::to_string(count)).c_str()), OptionError);
}

}  // namespace
}  // namespace tessera
