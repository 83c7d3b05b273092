#include <doctest/doctest.h>

#include <string>
#include <vector>

#include <tessera/comm/local/call.hpp>

namespace tessera::local {
namespace {

Call sample() {
  return {Collective::reduce_scatter,
          element_type<bfloat16>(),
          element_type<float>(),
          4096,
          1024,
          0,
          {"gradients of bucket", 3, 2},
          nullptr};
}

TEST_CASE("calls are the same only if kind, types, sizes, root and tag are") {
  CHECK(sample().same_as(sample()));
  const auto differs = [](auto change) {
    Call other = sample();
    change(other);
    return !sample().same_as(other);
  };
  CHECK(differs([](Call& c) { c.kind = Collective::all_gather; }));
  CHECK(differs([](Call& c) { c.in = element_type<float>(); }));
  CHECK(differs([](Call& c) { c.out = element_type<bfloat16>(); }));
  CHECK(differs([](Call& c) { c.elements = 4095; }));
  CHECK(differs([](Call& c) { c.part = 1025; }));
  CHECK(differs([](Call& c) { c.root = 1; }));
  CHECK_FALSE(differs([](Call& c) { c.scale = 0.5f; }));  // a step's digest says what made it differ
  CHECK(differs([](Call& c) { c.tag.what = "parameters of bucket"; }));
  CHECK(differs([](Call& c) { c.tag.index = 4; }));
  CHECK(differs([](Call& c) { c.tag.pass = 3; }));
}

TEST_CASE("a call is told with its sizes, types and tag") {
  CHECK(sample().text() == "reduce_scatter of 4096 bfloat16 to float in parts of 1024 (gradients of bucket 3, pass 2)");
  Call scaled = sample();
  scaled.scale = 0.125f;
  CHECK(scaled.text() ==
        "reduce_scatter of 4096 bfloat16 to float in parts of 1024 times 0.125 (gradients of bucket 3, pass 2)");
}

TEST_CASE("each rank's portion of an all-gather fills its own vector from all slices, the short last one too") {
  std::vector<float> slices[3] = {{0, 1}, {2, 3}, {4}};
  std::vector<float> all[3];
  std::vector<Ends> ends;
  for (int r = 0; r < 3; ++r) {
    all[r].resize(5);
    ends.push_back({slices[r].data(), all[r].data()});
  }
  const Call call{Collective::all_gather, element_type<float>(), element_type<float>(), 5, 2, 0, {}, all_gather};
  for (int r = 0; r < 3; ++r) call.portion(call, ends, r);
  for (const auto& one : all) CHECK(one == std::vector<float>{0, 1, 2, 3, 4});
}

TEST_CASE("a ring keeps what is not finished when it grows") {
  Ring ring(2);
  for (std::uint64_t s = 5; s < 5 + 9; ++s) ring.at(s, 5).first = static_cast<int>(s);
  for (std::uint64_t s = 5; s < 5 + 9; ++s) CHECK(ring[s].first == static_cast<int>(s));
}

}  // namespace
}  // namespace tessera::local
