#include <doctest/doctest.h>

#include <span>
#include <vector>

#include <tessera/comm/local/operation.hpp>

namespace tessera::local {
namespace {

TEST_CASE("over groups and peers each set of ranks may have its own vector size, the same on all ranks of the set") {
  Operation operation;
  RankCall of_rank;
  std::vector<float> whole(10), own(5);
  const auto join = [&](int rank, std::size_t elements) {
    AllGather gather(std::span<const float>(own), std::span<float>(whole).first(elements), 5, {"p"});
    gather.over = Ranks::peers;
    gather.group_size = 2;
    of_rank.set(gather);
    if (operation.joined == 0) operation.begin(rank, 4, of_rank.call);
    const int other = operation.differs(rank, of_rank);
    if (other < 0) operation.join(rank, of_rank);
    return other;
  };
  CHECK(join(0, 10) == -1);
  CHECK(join(1, 7) == -1);
  CHECK(join(2, 9) == 0);
  CHECK(join(3, 10) == 1);
  CHECK(operation.call_of(1).text() == "all_gather of 7 float in parts of 5 over peers in groups of 2 ranks (p 0, pass 0)");
  CHECK(join(2, 10) == -1);
  CHECK(join(3, 7) == -1);
}

TEST_CASE("a rank's task of an all-gather copies all slices into its vectors, including short last slices") {
  std::vector<float> slices[3] = {{0, 1, 10}, {2, 3, 11}, {4}};
  std::vector<float> all[3];
  Operation operation;
  for (int r = 0; r < 3; ++r) {
    all[r].resize(7);
    const std::span<const float> own(slices[r]);
    const std::span<float> whole(all[r]);
    const std::size_t first = r < 2 ? 2 : 1;
    const Piece<float> pieces[] = {{own.first(first), whole.first(5), 2}, {own.subspan(first), whole.subspan(5), 1}};
    RankCall of_rank;
    of_rank.set(AllGather<float>(pieces, {"p"}), host_task<AllGather<float>>());
    if (r == 0) operation.begin(0, 3, of_rank.call);
    operation.join(r, of_rank);
  }
  CHECK(operation.joined == 3);
  CHECK(operation.bytes() == 3 * 7 * 4);
  for (int r = 0; r < 3; ++r) operation.run(r);
  for (const auto& one : all) CHECK(one == std::vector<float>{0, 1, 2, 3, 4, 10, 11});
}

}  // namespace
}  // namespace tessera::local
