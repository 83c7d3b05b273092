// The specification of Local, on the host and on a device: tests/comm/local/local.cpp and tests/cuda/local/local.cu run
// these cases.
//
// R is the environment. R::Comm: the communicator. R::run(world, f): runs f(comm) on `world` ranks, once per way to run
// collectives. R::Memory<T>: an array in the communicator's memory, constructed from a vector, with in() and out() as
// spans and get() as a vector.
#pragma once

#include <doctest/doctest.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cmath>
#include <string>
#include <thread>
#include <vector>

#include <tessera/comm/communicator.hpp>

namespace tessera::local_cases {

using std::chrono::milliseconds;
using std::chrono::seconds;
using Floats = std::vector<float>;

template <class R>
using FloatMemory = typename R::template Memory<float>;
template <class R>
using Comm = typename R::Comm;
template <class R>
using Event = typename R::Comm::Executor::Event;

inline float made_up(int rank, index_t i) {
  return std::sin(static_cast<float>(rank * 101 + i * 3)) * (rank % 3 == 0 ? 1000.0f : 0.01f);
}

inline float by_recursion(const Floats& leaves, std::size_t begin, std::size_t end) {
  if (end - begin == 1) return leaves[begin];
  std::size_t left = 1;
  while (2 * left < end - begin) left *= 2;
  return by_recursion(leaves, begin, begin + left) + by_recursion(leaves, begin + left, end);
}

inline float sum_at(int world, index_t i) {
  Floats leaves;
  for (int r = 0; r < world; ++r) leaves.push_back(made_up(r, i));
  return by_recursion(leaves, 0, leaves.size());
}

inline bool contains(const std::string& text, const std::string& what) { return text.find(what) != std::string::npos; }

// Elements are compared without doctest's macros, because these are slow on several threads under sanitizers.
template <class R, class F>
void for_every_world(F f) {
  for (int world = 1; world <= 8; ++world) R::run(world, [&](Comm<R>& comm) { f(comm, world); });
}

// Sizes of a vector in parts of `part`: complete slices, short slices, empty slices, no elements.
template <class F>
void for_every_size(int world, F f) {
  for (const index_t part : {0, 1, 64, 300})
    for (const index_t elements : {index_t{0}, index_t{1}, part - 1, world * part - 1, world * part})
      if (elements >= 0 && elements <= world * part) f(part, elements);
}

template <class R>
void reduce_scatter_sums_in_the_tree() {
  for_every_world<R>([](Comm<R>& comm, int world) {
    auto queue = comm.queue(seconds(30));
    for_every_size(world, [&](index_t part, index_t elements) {
      Floats values;
      for (index_t i = 0; i < elements; ++i) values.push_back(made_up(comm.rank(), i));
      FloatMemory<R> in(values), out(Floats(part, -1));
      queue.post(ReduceScatter(in.in(), out.out(), part, {"g", part, elements})).wait();
      const Slice own(elements, part, comm.rank());
      const Floats sums = out.get();
      bool right = true;
      for (index_t i = 0; i < part; ++i) right &= sums[i] == (i < own.size ? sum_at(world, own.begin + i) : -1);
      queue.post(ReduceScatter(in.in(), in.out().subspan(own.begin, own.size), part, {"in place", 0, 0})).wait();
      const Floats in_place = in.get();
      for (index_t i = 0; i < own.size; ++i) right &= in_place[own.begin + i] == sums[i];
      for (index_t i = 0; i < own.begin; ++i) right &= in_place[i] == made_up(comm.rank(), i);
      CHECK(right);
    });
  });
}

template <class R>
void bfloat16_is_summed_in_float() {
  for_every_world<R>([](Comm<R>& comm, int world) {
    auto queue = comm.queue(seconds(30));
    std::vector<bfloat16> values;
    for (index_t i = 0; i < 70 * world; ++i) values.push_back(bfloat16(made_up(comm.rank(), i)));
    typename R::template Memory<bfloat16> in(values), out(std::vector<bfloat16>(70));
    FloatMemory<R> wide(Floats(70));
    queue.post(ReduceScatter(in.in(), out.out(), 70, {"g", 0, 0}));
    queue.post(ReduceScatter(in.in(), wide.out(), 70, {"g", 1, 0})).wait();
    const auto rounded = out.get();
    const auto sums = wide.get();
    bool right = true;
    for (index_t i = 0; i < 70; ++i) {
      Floats leaves;
      for (int r = 0; r < world; ++r) leaves.push_back(static_cast<float>(bfloat16(made_up(r, 70 * comm.rank() + i))));
      const float sum = by_recursion(leaves, 0, leaves.size());
      right &= sums[i] == sum && rounded[i].bits == bfloat16(sum).bits;
    }
    CHECK(right);
  });
}

// The sums exceed float16's range; the scaled sums are within it.
template <class R>
void sums_are_scaled_in_float_before_they_are_rounded() {
  for_every_world<R>([](Comm<R>& comm, int world) {
    auto queue = comm.queue(seconds(30));
    const auto large = [](int rank, index_t i) {
      return float16(60000.0f - 32.0f * static_cast<float>((rank + i) % 7));
    };
    const float scale = 1 / (1.5f * static_cast<float>(world));
    std::vector<float16> values;
    for (index_t i = 0; i < 70 * world; ++i) values.push_back(large(comm.rank(), i));
    typename R::template Memory<float16> in(values), out(std::vector<float16>(70));
    FloatMemory<R> wide(Floats(70));
    queue.post(ReduceScatter(in.in(), out.out(), 70, {"g", 0, 0}, scale));
    queue.post(ReduceScatter(in.in(), wide.out(), 70, {"g", 1, 0}, scale)).wait();
    queue.post(ReduceScatter(in.in(), in.out().subspan(70 * comm.rank(), 70), 70, {"in place", 0, 0}, scale)).wait();
    const auto rounded = out.get(), in_place = in.get();
    const auto sums = wide.get();
    bool right = true;
    for (index_t i = 0; i < 70; ++i) {
      Floats leaves;
      for (int r = 0; r < world; ++r) leaves.push_back(static_cast<float>(large(r, 70 * comm.rank() + i)));
      const float mean = by_recursion(leaves, 0, leaves.size()) * scale;
      right &= mean < 65504 && sums[i] == mean && rounded[i].bits == float16(mean).bits &&
               in_place[70 * comm.rank() + i].bits == rounded[i].bits;
    }
    CHECK(right);
  });
}

template <class R>
void all_gather_puts_every_slice_at_its_place() {
  for_every_world<R>([](Comm<R>& comm, int world) {
    auto queue = comm.queue(seconds(30));
    for_every_size(world, [&](index_t part, index_t elements) {
      const Slice own(elements, part, comm.rank());
      Floats slice(part), vector(elements);
      for (index_t i = 0; i < part; ++i) slice[i] = made_up(7, comm.rank() * part + i);
      for (index_t i = 0; i < own.size; ++i) vector[own.begin + i] = slice[i];
      FloatMemory<R> in(slice), out{Floats(elements)}, same(vector);
      queue.post(AllGather(in.in(), out.out(), part, {"p", 0, 0}));
      queue.post(AllGather(same.in().subspan(own.begin, own.size), same.out(), part, {"in place", 0, 0})).wait();
      const Floats gathered = out.get();
      bool right = same.get() == gathered;
      for (index_t i = 0; i < elements; ++i) right &= gathered[i] == made_up(7, i);
      CHECK(right);
    });
  });
}

// Runs f for every group size that divides a world of 1, 2, 4 and 6 ranks.
template <class R, class F>
void for_every_group_size(F f) {
  for (const int world : {1, 2, 4, 6})
    for (int size = 1; size <= world; ++size)
      if (world % size == 0) R::run(world, [&](Comm<R>& comm) { f(comm, core::Groups{world, size}); });
}

// Each set of ranks has a vector of another size, as sets of peers do in the engine.
template <class R>
void groups_and_peers_gather_among_themselves() {
  for_every_group_size<R>([](Comm<R>& comm, core::Groups groups) {
    auto queue = comm.queue(seconds(30));
    for (const Ranks over : {Ranks::group, Ranks::peers})
      for (const index_t part : {0, 1, 64, 300}) {
        const int first = groups.first(over, comm.rank()), index = groups.index(over, comm.rank());
        const index_t elements = std::max<index_t>(0, groups.ranks(over) * part - 3 * first);
        const Slice own(elements, part, index);
        Floats slice(part);
        for (index_t i = 0; i < part; ++i) slice[i] = made_up(comm.rank(), i);
        FloatMemory<R> in(slice), out{Floats(elements)};
        AllGather gather(in.in(), out.out(), part, {"p", 0, 0});
        gather.over = over;
        gather.group_size = groups.size;
        queue.post(gather).wait();
        Floats vector(elements);
        for (index_t i = 0; i < own.size; ++i) vector[own.begin + i] = slice[i];
        FloatMemory<R> same(vector);
        gather.pieces = Piece<float>{same.in().subspan(own.begin, own.size), same.out(), part};
        queue.post(gather).wait();
        const Floats gathered = out.get();
        bool right = same.get() == gathered;
        for (index_t i = 0; i < elements; ++i)
          right &= gathered[i] == made_up(first + static_cast<int>(i / part) * groups.stride(over), i % part);
        CHECK(right);
      }
  });
}

template <class R>
void in_groups_a_rank_gets_the_slice_that_divides_its_groups() {
  for_every_group_size<R>([](Comm<R>& comm, core::Groups groups) {
    auto queue = comm.queue(seconds(30));
    for_every_size(groups.world, [&](index_t part, index_t elements) {
      Floats leaf(elements);
      for (index_t i = 0; i < elements; ++i) leaf[i] = made_up(comm.rank(), i);
      FloatMemory<R> in(leaf), out{Floats(part)};
      ReduceScatter sum(in.in(), out.out(), part, {"g", 0, 0});
      sum.group_size = groups.size;
      queue.post(sum).wait();
      const Slice own(elements, part, groups.slice(Ranks::world, comm.rank()));
      const Floats got = out.get();
      bool right = true;
      for (index_t i = 0; i < own.size; ++i) right &= got[i] == sum_at(groups.world, own.begin + i);
      FloatMemory<R> slice(Floats(got.begin(), got.begin() + own.size)), whole{Floats(elements)};
      AllGather gather(slice.in(), whole.out(), part, {"p", 0, 0});
      gather.group_size = groups.size;
      queue.post(gather).wait();
      const Floats gathered = whole.get();
      for (index_t i = 0; i < elements; ++i) right &= gathered[i] == sum_at(groups.world, i);
      CHECK(right);
    });
  });
}

template <class R>
void other_calls_span_groups_and_peers_too() {
  for_every_group_size<R>([](Comm<R>& comm, core::Groups groups) {
    auto queue = comm.queue(seconds(30));
    for (const Ranks over : {Ranks::group, Ranks::peers}) {
      const int n = groups.ranks(over), first = groups.first(over, comm.rank());
      const auto spanning = [&](auto call) {
        call.over = over;
        call.group_size = groups.size;
        return call;
      };
      FloatMemory<R> sum(Floats(5, static_cast<float>(1 << comm.rank()))), to(Floats(n, 0.0f)), root(Floats(3, comm.rank()));
      Floats mine(n);
      for (int r = 0; r < n; ++r) mine[r] = static_cast<float>(10 * comm.rank() + r);
      FloatMemory<R> from(mine);
      queue.post(spanning(AllReduce(sum.out(), {"s", 0, 0})));
      queue.post(spanning(AllToAll(from.in(), to.out(), {"t", 0, 0})));
      queue.post(spanning(Broadcast(root.out(), n - 1, {"b", 0, 0}))).wait();
      float expected = 0;
      Floats received(n);
      for (int r = 0; r < n; ++r) {
        const int peer = first + r * groups.stride(over);
        expected += static_cast<float>(1 << peer);
        received[r] = static_cast<float>(10 * peer + groups.index(over, comm.rank()));
      }
      CHECK(sum.get() == Floats(5, expected));
      CHECK(to.get() == received);
      CHECK(root.get() == Floats(3, static_cast<float>(first + (n - 1) * groups.stride(over))));
    }
  });
}

template <class R>
void all_reduce_sums_floats_and_integers() {
  for_every_world<R>([](Comm<R>& comm, int world) {
    auto queue = comm.queue(seconds(30));
    for (const index_t n : {0, 1, 7, 1000}) {
      Floats floats(n);
      for (index_t i = 0; i < n; ++i) floats[i] = made_up(comm.rank(), i);
      FloatMemory<R> x(floats);
      typename R::template Memory<double> y(std::vector<double>(n, 0.5 + comm.rank()));
      typename R::template Memory<std::uint64_t> u(std::vector<std::uint64_t>(n, ~std::uint64_t{0} - comm.rank()));
      typename R::template Memory<std::int64_t> s(std::vector<std::int64_t>(n, -comm.rank()));
      queue.post(AllReduce(x.out(), {"x", 0, 0}));
      queue.post(AllReduce(y.out(), {"y", 0, 0}));
      queue.post(AllReduce(u.out(), {"u", 0, 0}));
      queue.post(AllReduce(s.out(), {"s", 0, 0})).wait();
      const int ranks = world * (world - 1) / 2;
      const auto xs = x.get();
      const auto ys = y.get();
      const auto us = u.get();
      const auto ss = s.get();
      bool right = true;
      for (index_t i = 0; i < n; ++i)
        right &= xs[i] == sum_at(world, i) && ys[i] == 0.5 * world + ranks && ss[i] == -ranks &&
                 us[i] == std::uint64_t{0} - world - ranks;
      CHECK(right);
    }
  });
}

template <class R>
void all_to_all_transposes_and_broadcast_copies() {
  for_every_world<R>([](Comm<R>& comm, int world) {
    auto queue = comm.queue(seconds(30));
    const index_t n = 33;
    Floats values(world * n);
    for (index_t i = 0; i < world * n; ++i) values[i] = made_up(comm.rank(), i);
    FloatMemory<R> in(values), out{Floats(world * n)}, root(Floats(n, static_cast<float>(comm.rank())));
    queue.post(AllToAll(in.in(), out.out(), {"t", 0, 0}));
    queue.post(Broadcast(root.out(), world - 1, {"b", 0, 0})).wait();
    bool right = root.get() == Floats(n, static_cast<float>(world - 1));
    const Floats turned = out.get();
    for (int r = 0; r < world; ++r)
      for (index_t i = 0; i < n; ++i) right &= turned[r * n + i] == made_up(r, comm.rank() * n + i);
    CHECK(right);
  });
}

// The pieces have different sizes, parts and memory.
template <class R>
void a_call_of_several_pieces_does_each_of_them() {
  for_every_world<R>([](Comm<R>& comm, int world) {
    auto queue = comm.queue(seconds(30));
    const index_t sizes[][2] = {{70 * world, 70}, {5 * world - 3, 5}, {0, 0}};  // elements, part
    std::vector<FloatMemory<R>> whole, slices, gathered, totals;
    std::vector<Piece<float>> sums, gathers, all;
    for (const auto& [n, part] : sizes) {
      Floats values;
      for (index_t i = 0; i < n; ++i) values.push_back(made_up(comm.rank(), i));
      whole.emplace_back(values);
      totals.emplace_back(values);
      slices.emplace_back(Floats(static_cast<std::size_t>(part)));
      gathered.emplace_back(Floats(static_cast<std::size_t>(n)));
    }
    for (std::size_t k = 0; k < 3; ++k) {
      sums.push_back({whole[k].in(), slices[k].out(), sizes[k][1]});
      gathers.push_back({slices[k].in(), gathered[k].out(), sizes[k][1]});
      all.push_back({totals[k].in(), totals[k].out()});
    }
    queue.post(ReduceScatter<float>(sums, {"g"}, 0.5f));
    queue.post(AllReduce<float>(all, {"n"}));
    queue.post(AllGather<float>(gathers, {"p"})).wait();
    bool right = true;
    for (std::size_t k = 0; k < 3; ++k) {
      const Floats halves = gathered[k].get(), sum = totals[k].get();
      for (std::size_t i = 0; i < sum.size(); ++i)
        right &= sum[i] == sum_at(world, static_cast<index_t>(i)) && halves[i] == 0.5f * sum[i];
    }
    CHECK(right);
  });
}

// Compares a sum of two pieces, continued by calls with one leaf per rank, with one sum over all leaves. The input of a
// rank without a leaf must not be read.
template <class R>
void a_sum_goes_on_from_call_to_call() {
  for_every_world<R>([](Comm<R>& comm, int world) {
    auto queue = comm.queue(seconds(30));
    const index_t n[] = {130 * world - 7, 64 * world}, part[] = {130, 64};
    for (const int leaves : {1, 2, 3, 7, 12, 17}) {
      FloatMemory<R> sums(Floats(5 * 194, 1e30f)), first(Floats(130, -1)), second(Floats(64, -1));
      for (int before = 0; before < leaves; before += world) {
        const int added = leaves - before < world ? leaves - before : world;
        const bool last = before + added == leaves;
        std::vector<FloatMemory<R>> mine;
        for (const index_t elements : n) {
          Floats values;
          for (index_t i = 0; i < elements; ++i)
            values.push_back(comm.rank() < added ? made_up(before + comm.rank(), i) : std::nanf(""));
          mine.emplace_back(values);
        }
        const std::vector<Piece<float>> pieces{{mine[0].in(), first.out(), part[0], sums.out().data()},
                                               {mine[1].in(), second.out(), part[1], sums.out().data() + part[0]}};
        ReduceScatter<float> call(pieces, {"g", 0, before}, 0.5f);
        call.carry = Carry{194, before, added < world ? added : Carry::every_rank, last};
        queue.post(call).wait();
        if (!last) CHECK(first.get() == Floats(130, -1));
      }
      bool right = true;
      for (int k = 0; k < 2; ++k) {
        const Slice own(n[k], part[k], comm.rank());
        const Floats got = k == 0 ? first.get() : second.get();
        for (index_t i = 0; i < own.size; ++i)
          right &= got[static_cast<std::size_t>(i)] == 0.5f * sum_at(leaves, own.begin + i);
      }
      CHECK(right);
    }
  });
}

template <class R>
void calls_posted_together_are_done_in_their_order() {
  R::run(3, [](Comm<R>& comm) {
    auto queue = comm.queue(seconds(30));
    FloatMemory<R> slices(Floats(4, static_cast<float>(comm.rank()))), first(Floats(6)), second(Floats(6));
    const std::vector<AllGather<float>> calls{{slices.in().first(2), first.out(), 2, {"p", 0, 0}},
                                              {slices.in().last(2), second.out(), 2, {"p", 1, 0}}};
    queue.post(std::span<const AllGather<float>>(calls)).wait();
    CHECK(first.get() == Floats{0, 0, 1, 1, 2, 2});
    CHECK(second.get() == first.get());
    CHECK(queue.post(std::span<const AllGather<float>>()).done());
  });
}

template <class R>
void posting_does_not_wait() {
  R::run(3, [](Comm<R>& comm) {
    auto queue = comm.queue(seconds(30));
    std::vector<FloatMemory<R>> xs;
    for (int i = 0; i < 100; ++i) xs.emplace_back(Floats(40, 1.0f));
    std::vector<Event<R>> events;
    FloatMemory<R> chain(Floats(40, 1.0f));
    if (comm.rank() == 1) std::this_thread::sleep_for(milliseconds(20));
    for (int i = 0; i < 100; ++i) {
      events.push_back(queue.post(AllReduce(xs[i].out(), {"x", i, 0})));
      if (i < 8) queue.post(AllReduce(chain.out(), {"chain", i, 0}));
    }
    events.back().wait();
    bool right = chain.get() == Floats(40, 6561.0f);
    for (int i = 0; i < 100; ++i) right &= events[i].done() && xs[i].get() == Floats(40, 3.0f);
    CHECK(right);
  });
}

template <class R>
void a_collective_starts_after_its_event() {
  R::run(2, [](Comm<R>& comm) {
    auto first = comm.queue(seconds(30)), second = comm.queue(seconds(30));
    FloatMemory<R> x(Floats(50000, 1.0f));
    const auto before = first.post(AllReduce(x.out(), {"x", 0, 0}));
    second.post(AllReduce(x.out(), {"x", 1, 0}), before).wait();
    CHECK(x.get() == Floats(50000, 4.0f));
  });
}

template <class R>
void queues_in_opposite_order_do_not_deadlock() {
  R::run(4, [](Comm<R>& comm) {
    FloatMemory<R> x({1}), y({2});  // must outlive both queues: an error in one leaves the other's collective in flight
    auto a = comm.queue(seconds(30)), b = comm.queue(seconds(30));
    float power = 1;
    for (int i = 0; i < 30; ++i) {
      const bool turned = comm.rank() % 2 != 0;
      auto& first = turned ? a : b;
      auto& second = turned ? b : a;
      const auto one = first.post(AllReduce((turned ? x : y).out(), {"i", i, 0}));
      const auto two = second.post(AllReduce((turned ? y : x).out(), {"i", i, 0}));
      two.wait();
      one.wait();
      power *= 4;
      if (x.get() != Floats{power} || y.get() != Floats{2 * power}) throw std::runtime_error("wrong sums");
    }
  });
}

// The what() of the error that f threw on each rank, or "". The errors do not end the run.
template <class R, class Expected, class F>
std::vector<std::string> errors_of(int world, F f) {
  std::vector<std::string> errors(world);
  R::run_once(world, [&](Comm<R>& comm) {
    try {
      f(comm);
    } catch (const Expected& error) {
      errors[comm.rank()] = error.what();
    }
  });
  return errors;
}

template <class R>
void another_call_is_named_to_every_rank() {
  for (const int mistake : {0, 1, 2, 3, 4}) {
    std::atomic<int> arrived = 0;
    const auto errors = errors_of<R, AgreementError>(3, [&](Comm<R>& comm) {
      auto queue = comm.queue(seconds(30));
      FloatMemory<R> x(Floats(16)), y(Floats(16));
      const bool odd = comm.rank() == 2;
      while (odd && arrived < 1) std::this_thread::yield();
      Event<R> event;
      if (!odd) event = queue.post(ReduceScatter(x.in(), y.out(), 6, {"gradients of bucket", 3, 2}));
      ++arrived;
      if (odd && mistake == 0) event = queue.post(AllGather(x.in(), y.out(), 16, {"parameters of bucket", 1, 2}));
      if (odd && mistake == 1)
        event = queue.post(ReduceScatter(x.in().first(15), y.out(), 6, {"gradients of bucket", 3, 2}));
      if (odd && mistake == 2) event = queue.post(ReduceScatter(x.in(), y.out(), 7, {"gradients of bucket", 3, 2}));
      if (odd && mistake == 3) event = queue.post(ReduceScatter(x.in(), y.out(), 6, {"gradients of bucket", 4, 2}));
      typename R::template Memory<bfloat16> narrow(std::vector<bfloat16>(16));
      if (odd && mistake == 4)
        event = queue.post(ReduceScatter(narrow.in(), y.out(), 6, {"gradients of bucket", 3, 2}));
      event.wait();
    });
    const char* const theirs[] = {"rank 2 calls all_gather of 16 float in parts of 16 (parameters of bucket 1, pass 2)",
                                  "rank 2 calls reduce_scatter of 15 float", "in parts of 7", "gradients of bucket 4",
                                  "rank 2 calls reduce_scatter of 16 bfloat16 to float"};
    for (const std::string& error : errors) {
      CAPTURE(error);
      CHECK(contains(error, "calls reduce_scatter of 16 float in parts of 6 (gradients of bucket 3, pass 2)"));
      CHECK(contains(error, theirs[mistake]));
    }
  }
}

template <class R>
void ranks_that_continue_a_sum_differently_all_learn_of_it() {
  const auto errors = errors_of<R, AgreementError>(3, [](Comm<R>& comm) {
    auto queue = comm.queue(seconds(30));
    FloatMemory<R> x(Floats(16)), y(Floats(16)), sums(Floats(16));
    const std::vector<Piece<float>> pieces{{x.in(), y.out(), 6, sums.out().data()}};
    ReduceScatter<float> call(pieces, {"gradients of bucket", 3, 2});
    call.carry = Carry{8, 3, comm.rank() == 1 ? 1 : 2, comm.rank() == 1};
    queue.post(call).wait();
  });
  for (const std::string& error : errors) {
    CAPTURE(error);
    CHECK(contains(error, "in parts of 6, of the first 2 ranks, added to 3 before, to be continued (gradients"));
    CHECK(contains(error, "in parts of 6, of the first 1 ranks, added to 3 before (gradients"));
  }
}

template <class R>
void another_root_is_found() {
  const auto errors = errors_of<R, AgreementError>(2, [](Comm<R>& comm) {
    auto queue = comm.queue(seconds(30));
    FloatMemory<R> x({0});
    queue.post(Broadcast(x.out(), comm.rank(), {"b", 0, 0})).wait();
  });
  for (const std::string& error : errors) CHECK(contains(error, "from rank 0"));
  for (const std::string& error : errors) CHECK(contains(error, "from rank 1"));
}

template <class R>
void a_long_wait_names_who_is_missing_and_where_each_rank_is() {
  std::atomic<int> called = 0;
  std::atomic<bool> over = false;
  const auto errors = errors_of<R, CommError>(4, [&](Comm<R>& comm) {
    FloatMemory<R> x({0}), y({0});  // outlive the queues
    auto queue = comm.queue(comm.rank() == 0 ? milliseconds(300) : milliseconds(30000));
    auto other = comm.queue(seconds(30));
    Event<R> event;
    if (comm.rank() % 2 == 0) event = queue.post(AllReduce(x.out(), {"norm of step", 5, 6}));
    if (comm.rank() == 1) event = other.post(AllReduce(y.out(), {"another", 0, 0}));
    ++called;
    while (comm.rank() == 0 && called < 4) std::this_thread::yield();
    while (comm.rank() == 3 && !over) std::this_thread::yield();  // as if it computed
    try {
      event.wait();
    } catch (...) {
      over = true;
      throw;
    }
    other.post(AllReduce(y.out(), {"another", 0, 0})).wait();
  });
  for (const std::string& error : errors) {
    CAPTURE(error);
    CHECK(contains(error,
                   "ranks 1 and 3 have not called all_reduce of 1 float (norm of step 5, pass 6) after 300 ms: "
                   "ranks 0 and 2 wait in queue 0 for all_reduce of 1 float (norm of step 5, pass 6); rank 1 waits in "
                   "queue 1 for all_reduce of 1 float (another 0, pass 0); rank 3 has called nothing"));
  }
}

template <class R>
void ranks_that_all_wait_for_each_other_are_told_at_once() {
  const auto start = std::chrono::steady_clock::now();
  const auto errors = errors_of<R, AgreementError>(3, [](Comm<R>& comm) {
    FloatMemory<R> x({0}), y({0});  // outlive the queues
    auto first = comm.queue(seconds(60)), second = comm.queue(seconds(60));
    Event<R> mine, others;
    if (comm.rank() != 1) mine = first.post(AllReduce(x.out(), {"gradients of bucket", 0, 7, {"a", "c"}}));
    if (comm.rank() != 0) others = second.post(AllReduce(y.out(), {"parameters of bucket", 4, 7, {"d", "d"}}));
    mine.wait();
    others.wait();
  });
  CHECK(std::chrono::steady_clock::now() - start < seconds(30));
  for (const std::string& error : errors) {
    CAPTURE(error);
    CHECK(contains(error, "no rank can go on: ranks 0 and 2 wait in queue 0 for all_reduce of 1 float (gradients of bucket 0, "
                          "units 'a' to 'c', pass 7); rank 1 waits in queue 1 for all_reduce of 1 float (parameters of bucket 4, "
                          "unit 'd', pass 7): every rank must make the same calls in the same order"));
  }
}

template <class R>
void a_rank_that_throws_wakes_the_others() {
  struct Custom : std::runtime_error {
    using std::runtime_error::runtime_error;
  };
  std::atomic<std::chrono::steady_clock::rep> thrown = 0;
  std::atomic<int> told = 0;
  std::atomic<bool> quick = true;
  CHECK_THROWS_WITH_AS(R::run_once(4, [&](Comm<R>& comm) {
    auto queue = comm.queue(seconds(30));
    FloatMemory<R> x(Floats(1000));
    queue.post(AllReduce(x.out(), {"x", 0, 0})).wait();
    if (comm.rank() == 2) {
      std::this_thread::sleep_for(milliseconds(30));
      thrown = std::chrono::steady_clock::now().time_since_epoch().count();
      throw Custom("out of luck");
    }
    try {
      queue.post(AllReduce(x.out(), {"x", 1, 0})).wait();
    } catch (const CommError& error) {
      const auto late =
          std::chrono::steady_clock::now().time_since_epoch() - std::chrono::steady_clock::duration(thrown);
      told += std::string(error.what()) == "rank 2 failed: out of luck";
      if (late > milliseconds(100)) quick = false;
      throw;
    }
  }), "out of luck", Custom);
  CHECK(told == 3);
  CHECK(quick);
}

template <class R>
void who_only_heard_of_an_error_is_not_its_cause() {
  for (int round = 0; round < 20; ++round)
    CHECK_THROWS_WITH_AS(R::run_once(3, [](Comm<R>& comm) {
      FloatMemory<R> x({0});
      auto queue = comm.queue(seconds(30));
      if (comm.rank() == 1) {
        queue.drop();
        std::this_thread::sleep_for(milliseconds(5));
        throw LayoutError("the cause");
      }
      queue.post(AllReduce(x.out(), {"x", 1, 0})).wait();
    }), "the cause", LayoutError);
}

template <class R>
void a_rank_that_returns_is_named() {
  const auto errors = errors_of<R, CommError>(3, [](Comm<R>& comm) {
    if (comm.rank() == 1) return;
    auto queue = comm.queue(seconds(30));
    FloatMemory<R> x({0});
    queue.post(AllReduce(x.out(), {"x", 0, 0})).wait();
  });
  for (const int r : {0, 2})
    CHECK(contains(errors[r], "rank 1 has left (its function has returned) and does not join all_reduce of 1 float (x 0, "
                              "pass 0)"));
}

template <class R>
void a_queue_that_ends_has_left() {
  const auto errors = errors_of<R, CommError>(3, [](Comm<R>& comm) {
    FloatMemory<R> x({0});
    auto other = comm.queue(seconds(30));
    {
      auto queue = comm.queue(seconds(30));
      if (comm.rank() != 1) {
        CHECK_THROWS_AS(queue.post(AllReduce(x.out(), {"x", 0, 0})).wait(), CommError);
        queue.drop();
        queue.post(AllReduce(x.out(), {"x", 0, 0})).wait();
      }
    }
    if (comm.rank() == 1) other.post(AllReduce(x.out(), {"x", 0, 0})).wait();
  });
  for (const int r : {0, 2}) CHECK(contains(errors[r], "rank 1 has left and does not join all_reduce"));
}

template <class R>
void who_leaves_a_queue_is_said_to_have_left() {
  for (const bool joins_first : {false, true}) {
    std::atomic<bool> told = false;
    const auto errors = errors_of<R, CommError>(3, [&](Comm<R>& comm) {
      FloatMemory<R> x({1});
      auto queue = comm.queue(seconds(30));
      if (comm.rank() == 1) {
        if (joins_first) queue.post(AllReduce(x.out(), {"x", 0, 3}));
        queue.detach();
        queue.detach();
        CHECK(x.get() == Floats{1});
        while (!told) std::this_thread::yield();
        return;
      }
      while (comm.rank() == 2 && !told) std::this_thread::yield();
      try {
        queue.post(AllReduce(x.out(), {"x", 0, 3})).wait();
      } catch (...) {
        told = true;
        throw;
      }
    });
    for (const int r : {0, 2})
      CHECK(contains(errors[r], "rank 1 has left and does not join all_reduce of 1 float (x 0, pass 3)"));
  }
}

template <class R>
void a_dropped_epoch_is_named_and_the_next_is_clean() {
  for (int dropper = 0; dropper < 3; ++dropper)
    R::run(3, [&](Comm<R>& comm) {
      auto queue = comm.queue(seconds(30));
      for (int round = 0; round < 5; ++round) {
        FloatMemory<R> x(Floats(2000, 1.0f)), lost(Floats(2000, 1.0f));
        const auto good = queue.post(AllReduce(x.out(), {"gradients of bucket", 0, 17}));
        good.wait();
        if (comm.rank() != dropper) {
          std::string error;
          try {
            queue.post(AllReduce(lost.out(), {"gradients of bucket", 1, 17})).wait();
          } catch (const CommError& caught) {
            error = caught.what();
          }
          CHECK(contains(error, "rank " + std::to_string(dropper) +
                                    " dropped pass 17 and does not join all_reduce of 2000 "
                                    "float (gradients of bucket 1, pass 17)"));
          CHECK_THROWS_AS(queue.post(AllReduce(lost.out(), {"gradients of bucket", 2, 17})).wait(), CommError);
        }
        queue.drop();
        CHECK(good.done());  // all ranks had joined it
        CHECK(x.get() == Floats(2000, 3.0f));
        CHECK(lost.get() == Floats(2000, 1.0f));
        queue.post(AllReduce(x.out(), {"again", 0, 0})).wait();
        CHECK(x.get() == Floats(2000, 9.0f));
      }
    });
}

template <class R>
void ranks_may_all_drop_and_start_again() {
  R::run(4, [](Comm<R>& comm) {
    auto queue = comm.queue(seconds(30));
    for (int round = 0; round < 30; ++round) {
      std::vector<FloatMemory<R>> xs;
      for (int i = 0; i < 8; ++i) xs.emplace_back(Floats(500, 1.0f));
      for (int i = 0; i < (comm.rank() * 3 + round) % 8; ++i) queue.post(AllReduce(xs[i].out(), {"x", i, round}));
      queue.drop();
      xs.clear();  // after the drop nothing accesses it
      FloatMemory<R> y(Floats(500, 1.0f));
      queue.post(AllReduce(y.out(), {"y", 0, round})).wait();
      if (y.get() != Floats(500, 4.0f)) throw std::runtime_error("not clean");
    }
  });
}

template <class R>
void a_rank_that_caught_its_own_error_goes_on() {
  std::atomic<int> told = 0;
  R::run_once(3, [&](Comm<R>& comm) {
    FloatMemory<R> x({1});
    auto queue = comm.queue(seconds(30));
    struct Drops {
      typename Comm<R>::Queue& queue;
      ~Drops() { queue.drop(); }
    };
    try {
      const Drops drops{queue};
      if (comm.rank() == 0) throw std::runtime_error("mine");
      queue.post(AllReduce(x.out(), {"x", 0, 0})).wait();
    } catch (const CommError& error) {
      told += contains(error.what(), "rank 0 dropped");
    } catch (const std::runtime_error&) {
    }
    queue.post(AllReduce(x.out(), {"x", 1, 0})).wait();
    CHECK(x.get() == Floats{3});
  });
  CHECK(told == 2);
}

template <class R>
void a_queue_may_end_with_collectives_in_flight() {
  for (int round = 0; round < 20; ++round)
    R::run_once(4, [&](Comm<R>& comm) {
      std::vector<FloatMemory<R>> xs;
      for (int i = 0; i < 5; ++i) xs.emplace_back(Floats(20000, 1.0f));
      {
        auto inner = comm.queue(seconds(30));
        for (int i = 0; i < 2 + (comm.rank() + round) % 4; ++i) inner.post(AllReduce(xs[i].out(), {"x", i, 0}));
      }
      bool right = true;
      for (const auto& x : xs) {
        const Floats is = x.get();
        right &= is == Floats(20000, is[0]) && (is[0] == 1 || is[0] == 4);
      }
      CHECK(right);
    });
}

template <class R>
void after_a_failure_every_call_throws_it() {
  CHECK_THROWS_WITH_AS(R::run_once(2, [](Comm<R>& comm) {
    auto queue = comm.queue(seconds(30));
    FloatMemory<R> x({0});
    if (comm.rank() == 0) throw std::runtime_error("gone");
    CHECK_THROWS_AS(queue.post(AllReduce(x.out(), {"x", 0, 0})).wait(), CommError);
    CHECK_THROWS_AS(queue.post(AllReduce(x.out(), {"x", 1, 0})), CommError);
    queue.drop();
    CHECK_THROWS_AS(queue.post(AllReduce(x.out(), {"x", 1, 0})), CommError);
  }), "gone", std::runtime_error);
}

template <class R>
void what_does_not_fit_is_refused() {
  R::run_once(2, [](Comm<R>& comm) {
    auto queue = comm.queue(seconds(30));
    FloatMemory<R> x(Floats(4)), y(Floats(1));
    CHECK_THROWS_AS(queue.post(ReduceScatter(x.in(), x.out(), 1, {})), BufferError);
    CHECK_THROWS_AS(queue.post(ReduceScatter(x.in(), y.out(), 2, {})), BufferError);
    CHECK_THROWS_AS(queue.post(AllGather(y.in(), x.out(), 2, {})), BufferError);
    CHECK_THROWS_AS(queue.post(AllToAll(x.in(), y.out(), {})), BufferError);
    CHECK_THROWS_AS(queue.post(Broadcast(x.out(), 2, {})), OptionError);
  });
}

}  // namespace tessera::local_cases
