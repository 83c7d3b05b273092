#include <tessera/exec/vectorize.hpp>

#include <vector>

#include <doctest/doctest.h>

using namespace tessera;

namespace {

struct Axpy {
  const float* x;
  float* y;
  TESSERA_ALWAYS_INLINE void operator()(index_t i) const noexcept {
    TESSERA_ROUND_EACH_OPERATION
    y[i] = y[i] * x[i] + x[i];
  }
};

struct Halves {
  int* firsts;
  int* lasts;
  TESSERA_ALWAYS_INLINE void operator()(index_t i) const noexcept {
    first(i);
    last(i);
  }
  TESSERA_ALWAYS_INLINE void first(index_t i) const noexcept { firsts[i] += 1; }
  TESSERA_ALWAYS_INLINE void last(index_t i) const noexcept { lasts[i] = 10 * lasts[i] + firsts[i]; }
};

// Counts the calls for each element, and how often it was checked when it was done.
struct Checked {
  int* done;
  int* checked;
  TESSERA_ALWAYS_INLINE void operator()(index_t i) const noexcept { done[i] += 1; }
  void after(index_t begin, index_t end) const noexcept {
    for (index_t i = begin; i < end; ++i) checked[i] = checked[i] == 0 && done[i] == 1 ? 1 : 9;
  }
};
struct CheckedHalves : Checked {
  TESSERA_ALWAYS_INLINE void first(index_t) const noexcept {}
  TESSERA_ALWAYS_INLINE void last(index_t i) const noexcept { done[i] += 1; }
};

template <class Body>
void checks_each_element_once() {
  for (const index_t n : {0, 1, 63, 64, 100, 1023, 1024, 1025, 5000}) {
    std::vector<int> done(5010), checked(5010);
    Body body;
    body.done = done.data();
    body.checked = checked.data();
    exec::vectorize(3, 3 + n, body);
    for (index_t i = 0; i < 5010; ++i) REQUIRE(checked[static_cast<std::size_t>(i)] == (i >= 3 && i < 3 + n));
  }
}

}  // namespace

TEST_CASE("each element is checked once, after it is done, in bodies of one phase and of two") {
  checks_each_element_once<Checked>();
  checks_each_element_once<CheckedHalves>();
}

TEST_CASE("every vector width visits each index once and never fuses, for ranges of 0 to 130") {
  for (const exec::Isa isa : {exec::Isa::baseline, exec::Isa::avx2, exec::Isa::avx512}) {
    if (isa > exec::best_isa()) continue;
    for (index_t n = 0; n <= 130; ++n) {
      std::vector<float> x(131), y(131);
      for (std::size_t i = 0; i < x.size(); ++i) x[i] = y[i] = 1.0f / static_cast<float>(i + 3);
      exec::vectorize_as(isa, 0, n, Axpy{x.data(), y.data()});
      for (std::size_t i = 0; i < x.size(); ++i) {
        const volatile float product = x[i] * x[i];
        REQUIRE(y[i] == (static_cast<index_t>(i) < n ? product + x[i] : x[i]));
      }
    }
  }
}

TEST_CASE("in a body of two phases each index has its first phase once, then its last, for ranges of 0 to 260") {
  for (const exec::Isa isa : {exec::Isa::baseline, exec::Isa::avx2, exec::Isa::avx512}) {
    if (isa > exec::best_isa()) continue;
    for (index_t n = 0; n <= 260; ++n) {
      std::vector<int> firsts(270), lasts(270);
      exec::vectorize_as(isa, 3, 3 + n, Halves{firsts.data(), lasts.data()});
      for (index_t i = 0; i < 270; ++i) {
        const int inside = i >= 3 && i < 3 + n;
        REQUIRE(firsts[static_cast<std::size_t>(i)] == inside);
        REQUIRE(lasts[static_cast<std::size_t>(i)] == inside);
      }
    }
  }
}
