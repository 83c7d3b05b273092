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
          {{4096, 1024}},
          0,
          {"gradients of bucket", 3, 2},
          nullptr};
}

TEST_CASE("calls are the same only if kind, types, sizes, ranks, root, tag and carry are the same") {
  CHECK(sample().same_as(sample()));
  const auto differs = [](auto change) {
    Call other = sample();
    change(other);
    return !sample().same_as(other);
  };
  CHECK(differs([](Call& c) { c.kind = Collective::all_gather; }));
  CHECK(differs([](Call& c) { c.in = element_type<float>(); }));
  CHECK(differs([](Call& c) { c.out = element_type<bfloat16>(); }));
  CHECK(differs([](Call& c) { c.pieces[0].elements = 4095; }));
  CHECK(differs([](Call& c) { c.pieces[0].part = 1025; }));
  CHECK(differs([](Call& c) { c.pieces.push_back({64, 16}); }));
  CHECK(differs([](Call& c) { c.root = 1; }));
  CHECK(differs([](Call& c) { c.over = Ranks::peers; }));
  CHECK(differs([](Call& c) { c.group_size = 2; }));
  CHECK_FALSE(differs([](Call& c) { c.scale = 0.5f; }));  // the step's digest reports it
  CHECK(differs([](Call& c) { c.tag.what = "parameters of bucket"; }));
  CHECK(differs([](Call& c) { c.tag.index = 4; }));
  CHECK(differs([](Call& c) { c.tag.pass = 3; }));
  CHECK(differs([](Call& c) { c.carry.before = 4; }));
  CHECK(differs([](Call& c) { c.carry.leaves = 4; }));
  CHECK(differs([](Call& c) { c.carry.last = false; }));
}

TEST_CASE("the text of a call has its sizes, types and tag") {
  CHECK(sample().text() == "reduce_scatter of 4096 bfloat16 to float in parts of 1024 (gradients of bucket 3, pass 2)");
  Call scaled = sample();
  scaled.scale = 0.125f;
  CHECK(scaled.text() ==
        "reduce_scatter of 4096 bfloat16 to float in parts of 1024 times 0.125 (gradients of bucket 3, pass 2)");
}

TEST_CASE("the text of a continued sum has its earlier leaves, its ranks, and whether it is to be continued") {
  Call call = sample();
  call.carry.before = 8;
  CHECK(call.text() == "reduce_scatter of 4096 bfloat16 to float in parts of 1024, added to 8 before (gradients of bucket "
                       "3, pass 2)");
  call.carry = {.leaves = 2, .last = false};
  CHECK(call.text() == "reduce_scatter of 4096 bfloat16 to float in parts of 1024, of the first 2 ranks, to be continued "
                       "(gradients of bucket 3, pass 2)");
}

TEST_CASE("the text of a call has the ranks that it is over") {
  Call call = sample();
  call.group_size = 4;
  CHECK(call.text() == "reduce_scatter of 4096 bfloat16 to float in parts of 1024 in groups of 4 ranks (gradients of "
                       "bucket 3, pass 2)");
  call.over = Ranks::group;
  CHECK(call.text() == "reduce_scatter of 4096 bfloat16 to float in parts of 1024 over groups of 4 ranks (gradients of "
                       "bucket 3, pass 2)");
  call.over = Ranks::peers;
  CHECK(call.text() == "reduce_scatter of 4096 bfloat16 to float in parts of 1024 over peers in groups of 4 ranks "
                       "(gradients of bucket 3, pass 2)");
}

TEST_CASE("the text of a call of several pieces has all of them") {
  Call call = sample();
  call.pieces = {{4096, 1024}, {64, 16}, {1, 1}};
  CHECK(
      call.text() ==
      "reduce_scatter of 4096, 64 and 1 bfloat16 to float in parts of 1024, 16 and 1 (gradients of bucket 3, pass 2)");
}

TEST_CASE("set() replaces a rank's call by a typed call") {
  std::vector<bfloat16> whole(10);
  std::vector<float> slice(4);
  const std::vector<Piece<bfloat16, float>> ranges{{whole, slice, 4}, {std::span(whole).first(3), slice, 1}};
  RankCall rank;
  rank.set(ReduceScatter<bfloat16, float>(ranges, {"gradients of bucket", 3, 2}, 0.5f));
  CHECK(rank.call.text() ==
        "reduce_scatter of 10 and 3 bfloat16 to float in parts of 4 and 1 times 0.5 (gradients of bucket 3, pass 2)");
  CHECK(rank.call.elements() == 13);
  CHECK(rank.ends.size() == 2);
  CHECK(rank.ends[1].in == whole.data());
  rank.set(Broadcast(std::span(slice), 2, {"b"}));
  CHECK(rank.call.text() == "broadcast of 4 float from rank 2 (b 0, pass 0)");
  CHECK(rank.ends.size() == 1);
  CHECK(rank.ends[0].out == slice.data());
}

}  // namespace
}  // namespace tessera::local
