#include <doctest/doctest.h>

#include <limits>

#include <tessera/model/network.hpp>

namespace tessera {
namespace {

constexpr Collective every_kind[] = {Collective::reduce_scatter, Collective::all_gather, Collective::all_reduce,
                                     Collective::all_to_all, Collective::broadcast};

// Results are exact, since latency and bytes are powers of two.
constexpr Network one_node{.within = {.latency = 0.5, .bandwidth = 1024}};
constexpr Network nodes_of_4{
    .within = {.latency = 0.25, .bandwidth = 4096}, .between = {.latency = 8, .bandwidth = 256}, .ranks_per_node = 4};

// Usable in constant expressions, like a plan.
static_assert(one_node.seconds(Collective::all_gather, 4096, 4) == 3 * 0.5 + 3 * 1.0);
static_assert(one_node.seconds(Collective::reduce_scatter, 4096, 4) == 3 * 0.5 + 3 * 1.0);
static_assert(one_node.seconds(Collective::all_reduce, 4096, 4) == 2 * (3 * 0.5 + 3 * 1.0));
static_assert(one_node.seconds(Collective::broadcast, 4096, 4) == 2 * (3 * 0.5 + 3 * 1.0));
static_assert(one_node.seconds(Collective::all_to_all, 4096, 4) == 3 * 0.5 + 3 * 1.0);

TEST_CASE("a world of one rank sends nothing") {
  for (const Collective kind : every_kind) {
    CHECK(one_node.seconds(kind, 1e9, 1) == 0);
    CHECK(nodes_of_4.seconds(kind, 1e9, 1) == 0);
  }
}

TEST_CASE("the messages of a ring are sequential, each with the size of one rank's slice") {
  // the steps of the algorithm: in each step every rank sends one slice to its neighbor
  for (const int world : {2, 4, 8, 64}) {
    const double bytes = 8192.0 * world, slice = bytes / world;
    double turns = 0;
    for (int turn = 1; turn < world; ++turn) turns += one_node.within.latency + slice / one_node.within.bandwidth;
    CHECK(one_node.seconds(Collective::all_gather, bytes, world) == turns);
    CHECK(one_node.seconds(Collective::reduce_scatter, bytes, world) == turns);
    CHECK(one_node.seconds(Collective::all_reduce, bytes, world) == 2 * turns);
  }
}

TEST_CASE("on several nodes the rings between nodes, one per local rank, run before the rings within nodes") {
  // an all-gather of 8 slices on 2 nodes of 4: each rank receives the slice of the rank with its local rank on the
  // other node, and then, in three steps within the node, the pairs of slices of the three other ranks
  const double slice = 2048, bytes = 8 * slice;
  const double between = 8 + slice / 256, within = 3 * (0.25 + 2 * slice / 4096);
  CHECK(nodes_of_4.seconds(Collective::all_gather, bytes, 8) == between + within);
  CHECK(nodes_of_4.seconds(Collective::reduce_scatter, bytes, 8) == between + within);
  CHECK(nodes_of_4.seconds(Collective::all_reduce, bytes, 8) == 2 * (between + within));
  // an all-to-all sends a slice to every peer: to three within the node, to four on the other node
  CHECK(nodes_of_4.seconds(Collective::all_to_all, bytes, 8) == 3 * (0.25 + slice / 4096) + 4 * (8 + slice / 256));
}

TEST_CASE("ranks that fit on one node, and nodes of one rank each, form one ring") {
  const Network alone{.between = one_node.within, .ranks_per_node = 1};
  for (const Collective kind : every_kind) {
    CHECK(nodes_of_4.seconds(kind, 4096, 4) == Network{nodes_of_4.within}.seconds(kind, 4096, 4));
    CHECK(nodes_of_4.seconds(kind, 4096, 2) == Network{nodes_of_4.within}.seconds(kind, 4096, 2));
    CHECK(alone.seconds(kind, 4096, 4) == one_node.seconds(kind, 4096, 4));
  }
}

TEST_CASE("a collective over groups takes the links within nodes, and one over peers those between") {
  constexpr core::Groups nodes{8, 4};
  for (const Collective kind : every_kind) {
    CHECK(nodes_of_4.seconds(kind, 4096, nodes, Ranks::group) == Network{nodes_of_4.within}.seconds(kind, 4096, 4));
    CHECK(nodes_of_4.seconds(kind, 4096, nodes, Ranks::peers) == Network{nodes_of_4.between}.seconds(kind, 4096, 2));
    CHECK(nodes_of_4.seconds(kind, 4096, nodes, Ranks::world) == nodes_of_4.seconds(kind, 4096, 8));
  }
}

TEST_CASE("peers of groups smaller than a node share nodes, and groups larger than a node span them") {
  CHECK(nodes_of_4.seconds(Collective::all_gather, 4096, core::Groups{8, 2}, Ranks::peers) ==
        Network{nodes_of_4.within, nodes_of_4.between, 2}.seconds(Collective::all_gather, 4096, 4));
  CHECK(nodes_of_4.seconds(Collective::all_gather, 4096, core::Groups{16, 8}, Ranks::group) ==
        nodes_of_4.seconds(Collective::all_gather, 4096, 8));
}

TEST_CASE("the default network costs nothing, and a buffer without bytes its latency") {
  for (const Collective kind : every_kind) CHECK(Network{}.seconds(kind, 1e12, 1024) == 0);
  CHECK(one_node.seconds(Collective::all_gather, 0, 4) == 1.5);
}

TEST_CASE("values that are out of range are refused by name") {
  constexpr double nan = std::numeric_limits<double>::quiet_NaN(), infinity = std::numeric_limits<double>::infinity();
  for (const double latency : {-1.0, nan, infinity}) {
    CHECK_THROWS_WITH_AS((Network{.within = {.latency = latency}}.validate()), doctest::Contains("latency within nodes"),
                         OptionError);
    CHECK_THROWS_WITH_AS((Network{.between = {.latency = latency}}.validate()), doctest::Contains("latency between nodes"),
                         OptionError);
  }
  for (const double bandwidth : {0.0, -1.0, nan})
    CHECK_THROWS_WITH_AS((Network{.between = {.bandwidth = bandwidth}}.validate()),
                         doctest::Contains("bandwidth between nodes must be greater than 0"), OptionError);
  CHECK_THROWS_WITH_AS((Network{.ranks_per_node = 0}.validate()), "network: a node has at least 1 rank, not 0", OptionError);
  CHECK_THROWS_WITH_AS(one_node.validate(0), "network: a world has at least 1 rank, not 0", OptionError);
}

TEST_CASE("a world size that does not fill whole nodes is refused") {
  CHECK_THROWS_WITH_AS(nodes_of_4.validate(6), "network: 6 ranks do not fill nodes of 4: use a multiple of it",
                       OptionError);
  CHECK_THROWS_AS(nodes_of_4.seconds(Collective::all_gather, 1, 6), OptionError);
  CHECK_NOTHROW(nodes_of_4.validate(3));
  CHECK_NOTHROW(nodes_of_4.validate(12));
}

}  // namespace
}  // namespace tessera
