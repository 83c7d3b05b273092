#include <cuda_runtime.h>
#include <doctest/doctest.h>

#include <vector>

#include <tessera/cuda/local/channel.cuh>

#include "cuda/ranks.hpp"

namespace tessera::local {
namespace {

TEST_CASE("a channel gives each device its ranks") {
  const testing::SeveralDevices several;
  int devices = 0;
  REQUIRE(cudaGetDeviceCount(&devices) == cudaSuccess);
  const int second = devices > 1 ? 1 : 0;
  DeviceChannel channel({0, second, 0});
  EventRing ring = channel.make_ring();
  std::vector<RankEvents> events;
  for (int r = 0; r < 3; ++r) events.push_back({nullptr, ring.next()});
  std::vector<std::vector<int>> ranks;
  channel.run(events, [&](const collectives::Share& share) {
    CHECK(share.device == static_cast<int>(ranks.size()));
    CHECK(share.devices == second + 1);
    CHECK(device::current() == (share.device == 0 ? 0 : second));
    ranks.emplace_back(share.ranks.begin(), share.ranks.end());
  });
  CHECK(ranks == (second == 0 ? std::vector<std::vector<int>>{{0, 1, 2}} : std::vector<std::vector<int>>{{0, 2}, {1}}));
  channel.synchronize();
  for (const RankEvents& each : events) CHECK(cudaEventQuery(static_cast<cudaEvent_t>(each.done)) == cudaSuccess);
}

TEST_CASE("the k-th queues of all ranks share one channel, which is destroyed when all have left it") {
  DeviceGroup group({0, 0});
  CHECK(group.threads.world() == 2);
  CHECK(group.device_of(1) == 0);
  auto a = group.open(0), b = group.open(1), other = group.open(0);
  CHECK(a == b);
  CHECK_FALSE(a == other);
  group.close(a);
  group.close(b);
  CHECK(group.open(1) == other);
}

}  // namespace
}  // namespace tessera::local
