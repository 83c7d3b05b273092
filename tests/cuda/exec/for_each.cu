#include <tessera/cuda/exec/for_each.cuh>

#include <cuda_runtime.h>
#include <doctest/doctest.h>

#include <vector>

#include <tessera/core/config.hpp>
#include <tessera/cuda/runtime/stream.cuh>

#include "cuda/array.hpp"

namespace tessera {
namespace {

using testing::Array;

// Counts the visits of an element.
struct Visit {
  int* visits;
  TESSERA_HD void operator()(index_t i) const noexcept { visits[i] += 1; }
};

// A visit counts 10, plus the element's index in its pack.
struct VisitInPacks : Visit {
  index_t before;

  static constexpr int pack_elements = 4;
  index_t lead() const noexcept { return before; }
  template <int n>
  TESSERA_HD void pack(index_t i, index_t end) const noexcept {
    static_assert(n == pack_elements);
    for (int k = 0; k < n; ++k)
      if (0 <= i + k && i + k < end) visits[i + k] += 10 + k;
  }
};

// The number to add is known on the device only.
struct VisitAsTold {
  int* visits;
  const int* told;  // whether to add, and how much

  struct Loaded {
    int* visits;
    int much;
    TESSERA_HD void operator()(index_t i) const noexcept { visits[i] += much; }
  };
  TESSERA_HD bool enabled() const noexcept { return told[0] != 0; }
  TESSERA_HD Loaded bind() const noexcept { return {visits, told[1]}; }
};

// The same with packs.
struct VisitPacksAsTold : VisitAsTold {
  static constexpr int pack_elements = VisitInPacks::pack_elements;
  index_t lead() const noexcept { return 1; }
  TESSERA_HD VisitInPacks bind() const noexcept { return {{visits}, 0}; }
};

struct VisitAll {
  int* visits;
  int n;
  TESSERA_HD void operator()() const noexcept {
    for (int i = 0; i < n; ++i) visits[i] += i;
  }
};

template <class Body>
void run(index_t n, const Body& body) {
  const CudaStream stream;
  device::for_each(n, body, 1, stream.get());
  REQUIRE(cudaStreamSynchronize(stream.get()) == cudaSuccess);
}

static_assert(!PackedBody<Visit> && PackedBody<VisitInPacks> && PackedBody<VisitPacksAsTold>);
static_assert(LateBoundBody<VisitAsTold> && !LateBoundBody<Visit>);

TEST_CASE("a loop visits each index once and none beyond its end, also if a grid iterates several times") {
  constexpr index_t grid = device::loop_tuning.threads * device::loop_tuning.blocks_a_multiprocessor;
  for (const index_t n : {index_t{0}, index_t{1}, index_t{255}, index_t{256}, index_t{257}, 3 * grid + 5}) {
    const Array<int> visits(n + 1);
    run(n, Visit{visits.data()});
    std::vector<int> expected(static_cast<std::size_t>(n), 1);
    expected.push_back(0);
    CHECK(visits.get() == expected);
  }
}

TEST_CASE("a body with packs gets each pack of elements once, the first with its lead") {
  for (const index_t n : {0, 1, 3, 4, 5, 8, 9, 1000, 10003}) {
    for (const index_t lead : {0, 1, 3}) {
      const Array<int> visits(n + 1);
      run(n, VisitInPacks{{visits.data()}, lead});
      std::vector<int> expected(static_cast<std::size_t>(n) + 1);
      for (index_t i = 0; i < n; ++i) expected[static_cast<std::size_t>(i)] = 10 + static_cast<int>((lead + i) % 4);
      CHECK(visits.get() == expected);
    }
  }
}

TEST_CASE("a late-bound body runs with the values that memory has when the loop runs, or not at all") {
  const Array<int> visits(100), told(2);
  const VisitAsTold body{visits.data(), told.data()};
  run(100, body);
  CHECK(visits.get() == std::vector<int>(100, 0));
  told.set({1, 7});
  run(100, body);
  CHECK(visits.get() == std::vector<int>(100, 7));
  run(10, VisitPacksAsTold{body});
  const std::vector<int> in_packs{18, 19, 20, 17, 18, 19, 20, 17, 18, 19};
  auto first = visits.get();
  first.resize(10);
  CHECK(first == in_packs);
}

TEST_CASE("a task that runs once is run by one thread") {
  const Array<int> visits(50);
  const CudaStream stream;
  device::launch(device::once_kernel<VisitAll>, 1, 1, stream.get(), VisitAll{visits.data(), 50});
  const auto found = visits.get();
  for (int i = 0; i < 50; ++i) CHECK(found[static_cast<std::size_t>(i)] == i);
}

}  // namespace
}  // namespace tessera
