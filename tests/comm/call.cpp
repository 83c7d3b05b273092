#include <doctest/doctest.h>

#include <algorithm>
#include <string>
#include <vector>

#include <tessera/comm/call.hpp>

namespace tessera {
namespace {

static_assert(CollectiveCall<ReduceScatter<bfloat16, float>> && CollectiveCall<InFixedOrder<AllReduce<float>>>);
static_assert(!CollectiveCall<Piece<float>> && !CollectiveCall<CallOf<float>> && !CollectiveCall<int>);
static_assert(sums_in_some_order<ReduceScatter<float>> && sums_in_some_order<AllReduce<double>>);
static_assert(!sums_in_some_order<AllReduce<std::uint64_t>> && !sums_in_some_order<AllGather<float>>);

TEST_CASE("a slice has the size of a part, except the last ones, which may be shorter or empty") {
  for (index_t elements : {0, 1, 7, 8, 9, 24})
    for (index_t part : {0, 1, 3, 8}) {
      index_t next = 0;
      for (int r = 0; r < 4; ++r) {
        const Slice slice(elements, part, r);
        CHECK(slice.begin == next);
        CHECK(slice.size <= part);
        next += slice.size;
      }
      CHECK(next == std::min(elements, 4 * part));
    }
}

TEST_CASE("collectives and element types have the names of the messages") {
  CHECK(std::string(name(Collective::reduce_scatter)) == "reduce_scatter");
  CHECK(std::string(name(Collective::broadcast)) == "broadcast");
  CHECK(std::string(element_type<bfloat16>().name) == "bfloat16");
  CHECK(element_type<std::uint64_t>().bytes == 8);
}

TEST_CASE("a call of one range is constructed from it, with default options") {
  std::vector<float> whole(8), slice(4);
  ReduceScatter sum(std::span<const float>(whole), std::span<float>(slice), 4, {"g", 1, 2});
  static_assert(std::same_as<decltype(sum), ReduceScatter<float, float>>);
  CHECK(sum.pieces.size() == 1);
  CHECK(sum.pieces.begin()->in.data() == whole.data());
  CHECK(sum.pieces.begin()->part == 4);
  CHECK(sum.scale == 1);
  CHECK(sum.workspace.empty());
  CHECK(sum.over == Ranks::world);
  const AllReduce reduce(std::span<float>(whole), {"n"});
  CHECK(reduce.pieces.begin()->in.data() == reduce.pieces.begin()->out.data());
  const auto copy = sum;
  CHECK(copy.pieces.begin() != sum.pieces.begin());  // each copy has its own piece
  CHECK(vector_elements<ReduceScatter<float>>(*copy.pieces.begin()) == 8);
}

TEST_CASE("several ranges are not copied") {
  std::vector<float> whole(8), slice(4);
  const std::vector<Piece<float>> ranges{{slice, whole, 4}, {std::span(slice).first(1), std::span(whole).first(2), 1}};
  const AllGather<float> gather(ranges, {"p", 0, 0});
  CHECK(gather.pieces.size() == 2);
  CHECK(gather.pieces.begin() == ranges.data());
  CHECK(vector_elements<AllGather<float>>(ranges[1]) == 2);
}

TEST_CASE("a workspace holds every rank's slice of every piece, and one rank needs none") {
  std::vector<bfloat16> whole(10);
  std::vector<float> slice(4);
  const std::vector<Piece<bfloat16, float>> ranges{{whole, slice, 4}, {std::span(whole).first(3), slice, 1}};
  const ReduceScatter<bfloat16, float> sum(ranges, {"g"});
  CHECK(workspace_bytes(sum, 3) == 3 * 5 * 2);
  CHECK(workspace_bytes(sum, 1) == 0);
  AllReduce of_pairs(std::span<float>(slice), {"n"});
  of_pairs.over = Ranks::group;
  of_pairs.group_size = 2;
  CHECK(workspace_bytes(of_pairs, 6) == 2 * 4 * 4);
  CHECK(workspace_bytes(AllReduce(std::span<float>(slice), {"n"}), 3) == 3 * 4 * 4);
}

TEST_CASE("a call that does not fit is refused by its kind") {
  std::vector<float> four(4), three(3);
  const auto in = [](const std::vector<float>& values) { return std::span<const float>(values); };
  const auto out = [](std::vector<float>& values) { return std::span<float>(values); };
  CHECK_THROWS_WITH_AS(check_call(ReduceScatter(in(four), out(four), 1, {}), 3, 0),
                       "reduce_scatter: 4 elements do not fit into 3 parts of 1", BufferError);
  CHECK_THROWS_WITH_AS(check_call(ReduceScatter(in(four), out(three), 4, {}), 1, 0),
                       "reduce_scatter: rank 0's slice has 4 elements, its buffer 3", BufferError);
  CHECK_THROWS_AS(check_call(AllGather(in(three), out(four), 4, {}), 1, 0), BufferError);
  CHECK_THROWS_AS(check_call(AllToAll(in(four), out(four), {}), 3, 0), BufferError);
  CHECK_THROWS_AS(check_call(Broadcast(out(four), 3, {}), 3, 0), OptionError);
  CHECK_NOTHROW(check_call(AllReduce(out(four), {}), 3, 0));
  const std::vector<Piece<float>> ranges{{in(four), four, 4}, {in(three), four, 4}};
  CHECK_THROWS_AS(check_call(AllGather<float>(ranges, {}), 1, 0), BufferError);
}

TEST_CASE("over groups and peers a vector has as many slices as these have ranks") {
  std::vector<float> six(6), three(3), two(2);
  AllGather gather(std::span<const float>(two), std::span<float>(six), 2, {});
  gather.over = Ranks::group;
  gather.group_size = 3;
  CHECK_NOTHROW(check_call(gather, 6, 5));
  gather.over = Ranks::peers;
  CHECK_THROWS_WITH_AS(check_call(gather, 6, 5), "all_gather: 6 elements do not fit into 2 parts of 2", BufferError);
  gather.group_size = 2;
  CHECK_NOTHROW(check_call(gather, 6, 5));
  AllToAll exchange{std::span<const float>(six), std::span<float>(six), {}};
  exchange.group_size = 2;
  exchange.over = Ranks::peers;
  CHECK_NOTHROW(check_call(exchange, 6, 0));
  Broadcast spread{std::span<float>(six), 2, {}};
  spread.group_size = 2;
  spread.over = Ranks::group;
  CHECK_THROWS_WITH_AS(check_call(spread, 6, 0), "broadcast: there is no rank 2 among 2", OptionError);
}

TEST_CASE("where there are groups, a rank's slice of the world is the one that divides its group's slice") {
  std::vector<float> in(5), out(1);
  ReduceScatter sum(std::span<const float>(in), std::span<float>(out).first(0), 1, {});
  sum.group_size = 3;
  CHECK_NOTHROW(check_call(sum, 6, 5));  // slice 5, which is empty
  CHECK_THROWS_WITH_AS(check_call(sum, 6, 3), "reduce_scatter: rank 3's slice has 1 elements, its buffer 0", BufferError);
}

TEST_CASE("groups that do not divide the world are refused, and all groups by who has none") {
  std::vector<float> four(4);
  AllReduce sum(std::span<float>(four), {});
  CHECK_NOTHROW(refuse_groups(sum));
  sum.over = Ranks::group;
  for (const int size : {-1, 0, 2, 6}) {
    sum.group_size = size;
    CHECK_THROWS_WITH_AS(check_call(sum, 3, 0), doctest::Contains("all_reduce: 3 ranks do not divide into groups of "),
                         OptionError);
  }
  sum.group_size = 3;
  CHECK_NOTHROW(check_call(sum, 3, 0));
  CHECK_THROWS_WITH_AS(refuse_groups(sum), "all_reduce over groups of 3 ranks: this communicator has no groups",
                       OptionError);
}

}  // namespace
}  // namespace tessera
