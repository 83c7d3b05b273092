#include <doctest/doctest.h>

#include <atomic>
#include <chrono>
#include <cmath>
#include <string>
#include <thread>
#include <vector>

#include <tessera/comm/local.hpp>

namespace tessera {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using Floats = std::vector<float>;
using In = std::span<const float>;
using Out = std::span<float>;

float made_up(int rank, index_t i) {
  return std::sin(static_cast<float>(rank * 101 + i * 3)) * (rank % 3 == 0 ? 1000.0f : 0.01f);
}

float by_recursion(const Floats& leaves, std::size_t begin, std::size_t end) {
  if (end - begin == 1) return leaves[begin];
  std::size_t left = 1;
  while (2 * left < end - begin) left *= 2;
  return by_recursion(leaves, begin, begin + left) + by_recursion(leaves, begin + left, end);
}

float sum_at(int world, index_t i) {
  Floats leaves;
  for (int r = 0; r < world; ++r) leaves.push_back(made_up(r, i));
  return by_recursion(leaves, 0, leaves.size());
}

bool contains(const std::string& text, const std::string& what) { return text.find(what) != std::string::npos; }

// doctest's macros on several threads are slow under sanitizers: elements are compared without them.
template <class F>
void for_every_way(F f) {
  for (int world = 1; world <= 8; ++world)
    for (const index_t inline_bytes : {index_t{0}, index_t{1} << 20})
      run_ranks(world, [&](Local& comm) { f(comm, world); }, {inline_bytes});
}

TEST_CASE("reduce_scatter sums in the fixed tree, whole, ragged, short, empty and in place") {
  for_every_way([](Local& comm, int world) {
    auto queue = comm.queue(seconds(30));
    for (const index_t part : {0, 1, 64, 300})
      for (const index_t elements : {index_t{0}, index_t{1}, part - 1, world * part - 1, world * part}) {
        if (elements < 0 || elements > world * part) continue;
        Floats in;
        for (index_t i = 0; i < elements; ++i) in.push_back(made_up(comm.rank(), i));
        Floats out(part, -1);
        queue.reduce_scatter(In(in), Out(out), part, {"g", part, elements}).wait();
        const Slice own(elements, part, comm.rank());
        bool right = true;
        for (index_t i = 0; i < part; ++i) right &= out[i] == (i < own.size ? sum_at(world, own.begin + i) : -1);
        queue.reduce_scatter(In(in), Out(in).subspan(own.begin, own.size), part, {"in place", 0, 0}).wait();
        for (index_t i = 0; i < own.size; ++i) right &= in[own.begin + i] == out[i];
        for (index_t i = 0; i < own.begin; ++i) right &= in[i] == made_up(comm.rank(), i);
        CHECK(right);
      }
  });
}

TEST_CASE("bfloat16 is summed in float and rounded once") {
  for_every_way([](Local& comm, int world) {
    auto queue = comm.queue(seconds(30));
    std::vector<bfloat16> in, out(70);
    for (index_t i = 0; i < 70 * world; ++i) in.push_back(bfloat16(made_up(comm.rank(), i)));
    Floats wide(70);
    queue.reduce_scatter(std::span<const bfloat16>(in), std::span<bfloat16>(out), 70, {"g", 0, 0});
    queue.reduce_scatter(std::span<const bfloat16>(in), Out(wide), 70, {"g", 1, 0}).wait();
    bool right = true;
    for (index_t i = 0; i < 70; ++i) {
      Floats leaves;
      for (int r = 0; r < world; ++r) leaves.push_back(static_cast<float>(bfloat16(made_up(r, 70 * comm.rank() + i))));
      const float sum = by_recursion(leaves, 0, leaves.size());
      right &= wide[i] == sum && out[i].bits == bfloat16(sum).bits;
    }
    CHECK(right);
  });
}

TEST_CASE("all_gather puts every slice at its place and truncates the last ones, in place too") {
  for_every_way([](Local& comm, int world) {
    auto queue = comm.queue(seconds(30));
    for (const index_t part : {0, 1, 64, 300})
      for (const index_t elements : {index_t{0}, index_t{1}, part - 1, world * part - 1, world * part}) {
        if (elements < 0 || elements > world * part) continue;
        const Slice own(elements, part, comm.rank());
        Floats in(part), out(elements), same(elements);
        for (index_t i = 0; i < part; ++i) in[i] = made_up(7, comm.rank() * part + i);
        for (index_t i = 0; i < own.size; ++i) same[own.begin + i] = in[i];
        queue.all_gather(In(in), Out(out), part, {"p", 0, 0});
        queue.all_gather(In(same).subspan(own.begin, own.size), Out(same), part, {"in place", 0, 0}).wait();
        bool right = true;
        for (index_t i = 0; i < elements; ++i) right &= out[i] == made_up(7, i) && same[i] == out[i];
        CHECK(right);
      }
  });
}

TEST_CASE("all_reduce sums floats in the tree, and integers modulo 2^64") {
  for_every_way([](Local& comm, int world) {
    auto queue = comm.queue(seconds(30));
    for (const index_t n : {0, 1, 7, 1000}) {
      Floats x(n);
      std::vector<double> y(n, 0.5 + comm.rank());
      std::vector<std::uint64_t> u(n, ~std::uint64_t{0} - comm.rank());
      std::vector<std::int64_t> s(n, -comm.rank());
      for (index_t i = 0; i < n; ++i) x[i] = made_up(comm.rank(), i);
      queue.all_reduce(Out(x), {"x", 0, 0});
      queue.all_reduce(std::span(y), {"y", 0, 0});
      queue.all_reduce(std::span(u), {"u", 0, 0});
      queue.all_reduce(std::span(s), {"s", 0, 0}).wait();
      const int ranks = world * (world - 1) / 2;
      bool right = true;
      for (index_t i = 0; i < n; ++i)
        right &= x[i] == sum_at(world, i) && y[i] == 0.5 * world + ranks && s[i] == -ranks &&
                 u[i] == std::uint64_t{0} - world - ranks;
      CHECK(right);
    }
  });
}

TEST_CASE("all_to_all transposes, and broadcast copies the root's") {
  for_every_way([](Local& comm, int world) {
    auto queue = comm.queue(seconds(30));
    const index_t n = 33;
    Floats in(world * n), out(world * n), root(n, static_cast<float>(comm.rank()));
    for (index_t i = 0; i < world * n; ++i) in[i] = made_up(comm.rank(), i);
    queue.all_to_all(In(in), Out(out), {"t", 0, 0});
    queue.broadcast(Out(root), world - 1, {"b", 0, 0}).wait();
    bool right = root == Floats(n, static_cast<float>(world - 1));
    for (int r = 0; r < world; ++r)
      for (index_t i = 0; i < n; ++i) right &= out[r * n + i] == made_up(r, comm.rank() * n + i);
    CHECK(right);
  });
}

TEST_CASE("posting does not wait for other ranks, and operations run in the order issued") {
  run_ranks(3, [](Local& comm) {
    auto queue = comm.queue(seconds(30));
    std::vector<Floats> xs(100, Floats(40, 1.0f));
    std::vector<HostEvent> events;
    Floats chain(40, 1.0f);
    if (comm.rank() == 1) std::this_thread::sleep_for(milliseconds(20));
    for (int i = 0; i < 100; ++i) {
      events.push_back(queue.all_reduce(Out(xs[i]), {"x", i, 0}));
      if (i < 8) queue.all_reduce(Out(chain), {"chain", i, 0});
    }
    events.back().wait();
    bool right = chain == Floats(40, 6561.0f);
    for (int i = 0; i < 100; ++i) right &= events[i].done() && xs[i] == Floats(40, 3.0f);
    CHECK(right);
  }, {0});
}

TEST_CASE("a collective starts after the event that it is given") {
  run_ranks(2, [](Local& comm) {
    auto first = comm.queue(seconds(30)), second = comm.queue(seconds(30));
    Floats x(50000, 1.0f);
    const HostEvent before = first.all_reduce(Out(x), {"x", 0, 0});
    second.all_reduce(Out(x), {"x", 1, 0}, before).wait();
    CHECK(x == Floats(50000, 4.0f));
  });
}

TEST_CASE("two queues used in opposite order by two ranks do not deadlock") {
  for (const index_t inline_bytes : {0, 1 << 20})
    run_ranks(4, [](Local& comm) {
      float x, y;  // outlive both queues: an error of one leaves the other's collective in flight
      auto a = comm.queue(seconds(30)), b = comm.queue(seconds(30));
      for (int i = 0; i < 50; ++i) {
        x = 1, y = 2;
        auto& first = comm.rank() % 2 ? a : b;
        auto& second = comm.rank() % 2 ? b : a;
        const auto one = first.all_reduce(Out(&first == &a ? &x : &y, 1), {"i", i, 0});
        const auto two = second.all_reduce(Out(&second == &a ? &x : &y, 1), {"i", i, 0});
        two.wait();
        one.wait();
        if (x != 4 || y != 8) throw std::runtime_error("wrong sums");
      }
    }, {inline_bytes});
}

// What each rank's part threw, by what() ("" if nothing); none of it ends run_ranks.
template <class Expected, class F>
std::vector<std::string> errors_of(int world, F f) {
  std::vector<std::string> errors(world);
  run_ranks(world, [&](Local& comm) {
    try {
      f(comm);
    } catch (const Expected& error) {
      errors[comm.rank()] = error.what();
    }
  });
  return errors;
}

TEST_CASE("a rank that calls something else gives every rank an error that names both ranks and both calls") {
  for (const int mistake : {0, 1, 2, 3, 4}) {
    std::atomic<int> arrived = 0;
    const auto errors = errors_of<AgreementError>(3, [&](Local& comm) {
      auto queue = comm.queue(seconds(30));
      Floats x(16), y(16);
      const bool odd = comm.rank() == 2;
      while (odd && arrived < 1) std::this_thread::yield();
      HostEvent event;
      if (!odd) event = queue.reduce_scatter(In(x), Out(y), 6, {"gradients of bucket", 3, 2});
      ++arrived;
      if (odd && mistake == 0) event = queue.all_gather(In(x), Out(y), 16, {"parameters of bucket", 1, 2});
      if (odd && mistake == 1) event = queue.reduce_scatter(In(x).first(15), Out(y), 6, {"gradients of bucket", 3, 2});
      if (odd && mistake == 2) event = queue.reduce_scatter(In(x), Out(y), 7, {"gradients of bucket", 3, 2});
      if (odd && mistake == 3) event = queue.reduce_scatter(In(x), Out(y), 6, {"gradients of bucket", 4, 2});
      std::vector<bfloat16> narrow(16);
      if (odd && mistake == 4)
        event = queue.reduce_scatter(std::span<const bfloat16>(narrow), Out(y), 6, {"gradients of bucket", 3, 2});
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

TEST_CASE("another root is found as well") {
  const auto errors = errors_of<AgreementError>(2, [](Local& comm) {
    auto queue = comm.queue(seconds(30));
    float x = 0;
    queue.broadcast(Out(&x, 1), comm.rank(), {"b", 0, 0}).wait();
  });
  for (const std::string& error : errors) CHECK(contains(error, "from rank 0"));
  for (const std::string& error : errors) CHECK(contains(error, "from rank 1"));
}

TEST_CASE("a wait longer than the timeout names who is missing, to everybody") {
  const auto errors = errors_of<CommError>(4, [](Local& comm) {
    auto queue = comm.queue(comm.rank() == 0 ? milliseconds(50) : milliseconds(30000));
    float x = 0;
    if (comm.rank() % 2 == 0) queue.all_reduce(Out(&x, 1), {"norm of step", 5, 6}).wait();
    auto other = comm.queue(seconds(30));
    if (comm.rank() % 2 == 1) other.all_reduce(Out(&x, 1), {"another", 0, 0}).wait();
  });
  for (const std::string& error : errors)
    CHECK(contains(error, "ranks 1 and 3 have not called all_reduce of 1 float (norm of step 5, pass 6) after 50 ms"));
}

TEST_CASE("a rank that throws wakes the others at once, with its name and message, and its error comes out") {
  struct Custom : std::runtime_error {
    using std::runtime_error::runtime_error;
  };
  std::atomic<std::chrono::steady_clock::rep> thrown = 0;
  std::atomic<int> told = 0;
  std::atomic<bool> quick = true;
  CHECK_THROWS_WITH_AS(run_ranks(4, [&](Local& comm) {
    auto queue = comm.queue(seconds(30));
    Floats x(1000);
    queue.all_reduce(Out(x), {"x", 0, 0}).wait();
    if (comm.rank() == 2) {
      std::this_thread::sleep_for(milliseconds(30));
      thrown = std::chrono::steady_clock::now().time_since_epoch().count();
      throw Custom("out of luck");
    }
    try {
      queue.all_reduce(Out(x), {"x", 1, 0}).wait();
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

TEST_CASE("the error of a rank that only heard of another's is not taken for the cause") {
  for (int round = 0; round < 20; ++round)
    CHECK_THROWS_WITH_AS(run_ranks(3, [](Local& comm) {
      auto queue = comm.queue(seconds(30));
      float x = 0;
      if (comm.rank() == 1) {
        queue.drop();
        std::this_thread::sleep_for(milliseconds(5));
        throw LayoutError("the cause");
      }
      queue.all_reduce(Out(&x, 1), {"x", 1, 0}).wait();
    }), "the cause", LayoutError);
}

TEST_CASE("a rank that returns while others wait for it is named") {
  const auto errors = errors_of<CommError>(3, [](Local& comm) {
    if (comm.rank() == 1) return;
    auto queue = comm.queue(seconds(30));
    float x = 0;
    queue.all_reduce(Out(&x, 1), {"x", 0, 0}).wait();
  });
  for (const int r : {0, 2})
    CHECK(contains(errors[r], "rank 1 has returned and does not join all_reduce of 1 float (x 0, pass 0)"));
}

TEST_CASE("a queue that is destroyed has left, which its peers are told") {
  const auto errors = errors_of<CommError>(3, [](Local& comm) {
    auto other = comm.queue(seconds(30));
    {
      auto queue = comm.queue(seconds(30));
      float x = 0;
      if (comm.rank() != 1) {
        CHECK_THROWS_AS(queue.all_reduce(Out(&x, 1), {"x", 0, 0}).wait(), CommError);
        queue.drop();
        queue.all_reduce(Out(&x, 1), {"x", 0, 0}).wait();
      }
    }
    float x = 0;
    if (comm.rank() == 1) other.all_reduce(Out(&x, 1), {"x", 0, 0}).wait();
  });
  for (const int r : {0, 2}) CHECK(contains(errors[r], "rank 1 has left the queue"));
}

TEST_CASE("a dropped epoch is named to those still in it, and the next one is clean") {
  for (const index_t inline_bytes : {0, 1 << 20})
    for (int dropper = 0; dropper < 3; ++dropper)
      run_ranks(3, [&](Local& comm) {
        auto queue = comm.queue(seconds(30));
        for (int round = 0; round < 5; ++round) {
          Floats x(2000, 1.0f), lost(2000, 1.0f);
          const auto good = queue.all_reduce(Out(x), {"gradients of bucket", 0, 17});
          good.wait();
          if (comm.rank() != dropper) {
            std::string error;
            try {
              queue.all_reduce(Out(lost), {"gradients of bucket", 1, 17}).wait();
            } catch (const CommError& caught) {
              error = caught.what();
            }
            CHECK(contains(error, "rank " + std::to_string(dropper) +
                                      " dropped pass 17 and does not join all_reduce of 2000 "
                                      "float (gradients of bucket 1, pass 17)"));
            CHECK_THROWS_AS(queue.all_reduce(Out(lost), {"gradients of bucket", 2, 17}).wait(), CommError);
          }
          queue.drop();
          CHECK(good.done());  // all had joined it
          CHECK(x == Floats(2000, 3.0f));
          CHECK(lost == Floats(2000, 1.0f));
          queue.all_reduce(Out(x), {"again", 0, 0}).wait();
          CHECK(x == Floats(2000, 9.0f));
        }
      }, {inline_bytes});
}

TEST_CASE("ranks may all drop, each at another place, and start again together") {
  for (const index_t inline_bytes : {0, 1 << 20})
    run_ranks(4, [](Local& comm) {
      auto queue = comm.queue(seconds(30));
      for (int round = 0; round < 30; ++round) {
        std::vector<Floats> xs(8, Floats(500, 1.0f));
        for (int i = 0; i < (comm.rank() * 3 + round) % 8; ++i) queue.all_reduce(Out(xs[i]), {"x", i, round});
        queue.drop();
        xs.clear();  // nothing touches it any more
        Floats y(500, 1.0f);
        queue.all_reduce(Out(y), {"y", 0, round}).wait();
        if (y != Floats(500, 4.0f)) throw std::runtime_error("not clean");
      }
    }, {inline_bytes});
}

TEST_CASE("a rank that caught its own exception after dropping does not leave the others waiting") {
  std::atomic<int> told = 0;
  run_ranks(3, [&](Local& comm) {
    auto queue = comm.queue(seconds(30));
    struct Drops {
      Local::Queue& queue;
      ~Drops() { queue.drop(); }
    };
    float x = 1;
    try {
      const Drops drops{queue};
      if (comm.rank() == 0) throw std::runtime_error("mine");
      queue.all_reduce(Out(&x, 1), {"x", 0, 0}).wait();
    } catch (const CommError& error) {
      told += contains(error.what(), "rank 0 dropped");
    } catch (const std::runtime_error&) {
    }
    queue.all_reduce(Out(&x, 1), {"x", 1, 0}).wait();
    CHECK(x == 3);
  });
  CHECK(told == 2);
}

TEST_CASE("a queue may be destroyed while its collectives are in flight, and buffers after it") {
  for (int round = 0; round < 20; ++round)
    run_ranks(4, [&](Local& comm) {
      std::vector<Floats> xs(5, Floats(20000, 1.0f));
      {
        auto inner = comm.queue(seconds(30));
        for (int i = 0; i < 2 + (comm.rank() + round) % 4; ++i) inner.all_reduce(Out(xs[i]), {"x", i, 0});
      }
      bool right = true;
      for (const Floats& x : xs) right &= x == Floats(20000, x[0]) && (x[0] == 1 || x[0] == 4);
      CHECK(right);
    });
}

TEST_CASE("after a failure every later call of every rank throws it") {
  CHECK_THROWS_WITH_AS(run_ranks(2, [](Local& comm) {
    auto queue = comm.queue(seconds(30));
    float x = 0;
    if (comm.rank() == 0) throw std::runtime_error("gone");
    CHECK_THROWS_AS(queue.all_reduce(Out(&x, 1), {"x", 0, 0}).wait(), CommError);
    CHECK_THROWS_AS(queue.all_reduce(Out(&x, 1), {"x", 1, 0}), CommError);
    queue.drop();
    CHECK_THROWS_AS(queue.all_reduce(Out(&x, 1), {"x", 1, 0}), CommError);
  }), "gone", std::runtime_error);
}

TEST_CASE("what does not fit is refused before anything is sent") {
  run_ranks(2, [](Local& comm) {
    auto queue = comm.queue(seconds(30));
    Floats x(4), y(1);
    CHECK_THROWS_AS(queue.reduce_scatter(In(x), Out(x), 1, {}), BufferError);
    CHECK_THROWS_AS(queue.reduce_scatter(In(x), Out(y), 2, {}), BufferError);
    CHECK_THROWS_AS(queue.all_gather(In(y), Out(x), 2, {}), BufferError);
    CHECK_THROWS_AS(queue.all_to_all(In(x), Out(y), {}), BufferError);
    CHECK_THROWS_AS(queue.broadcast(Out(x), 2, {}), OptionError);
  });
}

TEST_CASE("run_ranks refuses a world without ranks and negative sizes") {
  CHECK_THROWS_AS(run_ranks(0, [](Local&) {}), OptionError);
  CHECK_THROWS_AS(run_ranks(2, [](Local&) {}, {-1}), OptionError);
}

}  // namespace
}  // namespace tessera
