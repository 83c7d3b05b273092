#include <doctest/doctest.h>

#include <chrono>
#include <string>
#include <vector>

#include <tessera/comm/local/local.hpp>
#include <tessera/comm/decorators/recording.hpp>
#include <tessera/comm/self.hpp>

namespace tessera {
namespace {



TEST_CASE("a recording communicator records what each rank sends, also with slices of different sizes") {
  run_ranks(3, [](Local& local) {
    Recording<Local> comm(local);
    auto queue = comm.queue(std::chrono::seconds(30));
    const int rank = comm.rank();
    std::vector<float> whole(10, 1.0f), part(4), wide(6), wider(6);  // slices of 4, 4 and 2
    queue.post(ReduceScatter(std::span<const float>(whole), std::span<float>(part), 4, {"g", 1, 2}, 0.5f)).wait();
    CHECK(part[0] == 1.5f);
    queue.post(AllGather(std::span<const float>(part), std::span<float>(whole), 4, {"p", 0, 0})).wait();
    queue.post(AllReduce(std::span<float>(wide), {"n", 0, 0})).wait();
    queue.post(AllToAll(std::span<const float>(wide), std::span<float>(wider), {"t", 0, 0})).wait();
    queue.post(Broadcast(std::span<float>(wide), 1, {"b", 0, 0})).wait();
    const std::vector<Record> log = comm.log();
    CHECK(log.size() == 5);
    const index_t own = rank == 2 ? 2 : 4;
    const index_t sent[] = {10 - own, 2 * own, 8, 4, rank == 1 ? 12 : 0};
    for (int i = 0; i < 5; ++i) {
      CHECK(log[i].kind == static_cast<Collective>(i));
      CHECK(log[i].sent_elements == sent[i]);
      CHECK(std::string(log[i].type.name) == "float");
    }
    CHECK(log[0].tag.pass == 2);
    CHECK(log[0].in_elements == 10);
    CHECK(log[0].out_elements == own);
    CHECK(log[1].in_elements == own);
    CHECK(log[1].out_elements == 10);
    CHECK(comm.sent(Collective::reduce_scatter, Collective::all_to_all) == 14 - own);
    CHECK(comm.sent() == sent[0] + sent[1] + sent[2] + sent[3] + sent[4]);
  });
}

TEST_CASE("elements that go to other groups are counted separately") {
  run_ranks(6, [](Local& local) {
    Recording<Local> comm(local);
    auto queue = comm.queue(std::chrono::seconds(30));
    std::vector<float> whole(60), part(10), of_group(30);
    ReduceScatter sum(std::span<const float>(whole), std::span<float>(part), 10, {"g", 0, 0});
    sum.group_size = 3;
    queue.post(sum).wait();
    AllGather among_peers(std::span<const float>(part), std::span<float>(whole).first(20), 10, {"p", 0, 0});
    among_peers.group_size = 3;
    among_peers.over = Ranks::peers;
    queue.post(among_peers).wait();
    AllGather within(std::span<const float>(part), std::span<float>(of_group), 10, {"q", 0, 0});
    within.group_size = 3;
    within.over = Ranks::group;
    queue.post(within).wait();
    const std::vector<Record> log = comm.log();
    CHECK(log[0].sent_elements == 50);
    CHECK(log[0].sent_between_groups == 30);
    CHECK(log[1].sent_elements == 10);
    CHECK(log[1].sent_between_groups == 10);
    CHECK(log[1].over == Ranks::peers);
    CHECK(log[2].sent_elements == 20);
    CHECK(log[2].sent_between_groups == 0);
    CHECK(log[2].over == Ranks::group);
  });
}

TEST_CASE("who leaves a queue through it has left") {
  run_ranks(2, [](Local& local) {
    Recording<Local> comm(local);
    auto queue = comm.queue(std::chrono::seconds(30));
    float x = 1;
    if (comm.rank() == 1) return queue.detach();
    CHECK_THROWS_WITH_AS(queue.post(AllReduce(std::span<float>(&x, 1), {"x", 0, 0})).wait(),
                         doctest::Contains("rank 1 has left and does not join all_reduce"), CommError);
  });
}

TEST_CASE("copies share one log, and clear empties it") {
  Recording<Self> comm{Self{}};
  Recording<Self> copy = comm;
  auto queue = copy.queue(std::chrono::seconds(1));
  float x = 1;
  queue.post(AllReduce(std::span<float>(&x, 1), {}));
  CHECK(comm.log().size() == 1);
  CHECK(comm.sent() == 0);
  comm.clear();
  CHECK(copy.log().empty());
}

TEST_CASE("a refused call is not recorded") {
  Recording<Self> comm{Self{}};
  auto queue = comm.queue(std::chrono::seconds(1));
  std::vector<float> four(4), three(3);
  CHECK_THROWS_AS(queue.post(AllToAll(std::span<const float>(three), std::span<float>(four), {})), BufferError);
  AllReduce no_groups(std::span<float>(four), {});
  no_groups.group_size = 0;
  CHECK_THROWS_AS(queue.post(no_groups), OptionError);
  CHECK(comm.log().empty());
}

}  // namespace
}  // namespace tessera
