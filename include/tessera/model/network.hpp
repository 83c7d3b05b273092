// How long a collective takes on a network, by the alpha-beta model: a message takes its latency plus its bytes over
// the bandwidth. Not modeled: congestion, contention between collectives, and a library's choice of algorithms.
//
//     one node        a ring of N ranks                          N - 1 messages of 1/N of the buffer, in sequence
//     several nodes   a ring over the M nodes for each local     M - 1 messages of 1/N     between nodes, all rings at
//                     rank; a ring of the L ranks of a node      L - 1 messages of 1/L     once; within nodes  (N = M
//                     L)
#pragma once

#include <limits>

#include <tessera/comm/communicator.hpp>

namespace tessera {

/// The link of a rank. By default it takes no time.
struct Link {
  double latency = 0;                                          ///< seconds per message
  double bandwidth = std::numeric_limits<double>::infinity();  ///< bytes per second, in one direction, per rank

  constexpr double seconds(double messages, double bytes) const noexcept {
    return messages * latency + bytes / bandwidth;
  }
};

/// Nodes with the same number of ranks; ranks [0, ranks_per_node) are on the first. By default all ranks are on one node.
struct Network {
  Link within{};
  Link between{};
  int ranks_per_node = std::numeric_limits<int>::max();

  /// The seconds of a collective, from the arrival of the last of `world` ranks until all have the result. bytes: the
  /// size of the whole buffer, the sum of all ranks' slices.
  ///
  ///   all_gather, reduce_scatter   one node    (N-1) alpha + (N-1)/N bytes / beta
  ///                                nodes       (L-1) alpha + (L-1)/L bytes / beta  within
  ///                                          + (M-1) alpha + (M-1)/N bytes / beta  between
  ///   all_reduce                   a reduce_scatter and an all_gather
  ///   broadcast                    a scatter and an all_gather: the same time
  ///   all_to_all                   N-1 messages of bytes / N, each over the link between the two ranks
  ///
  /// Sources: Thakur, Rabenseifner and Gropp 2005, "Optimization of Collective Communication Operations in MPICH",
  /// section 4 (ring, pairwise exchange, van de Geijn's broadcast); Cho et al. 2019, "BlueConnect: Decomposing
  /// All-Reduce for Deep Learning on Heterogeneous Network Hierarchy" (rings within and between nodes).
  /// Throws OptionError as validate(world) does.
  constexpr double seconds(Collective kind, double bytes, int world) const {
    return seconds(kind, bytes, core::Groups{world, 1}, Ranks::world);
  }

  /// The same over the ranks of a group, or over peers; all groups at once, each rank having its links to itself.
  constexpr double seconds(Collective kind, double bytes, core::Groups groups, Ranks over) const {
    validate(groups.world);
    const double ranks = groups.ranks(over), in_node = ranks_in_node(groups, over), nodes = ranks / in_node;
    if (kind == Collective::all_to_all)
      return within.seconds(in_node - 1, (in_node - 1) / ranks * bytes) +
             between.seconds(ranks - in_node, (ranks - in_node) / ranks * bytes);
    const double once = within.seconds(in_node - 1, (in_node - 1) / in_node * bytes) +
                        between.seconds(nodes - 1, (nodes - 1) / ranks * bytes);
    return kind == Collective::all_gather || kind == Collective::reduce_scatter ? once : 2 * once;
  }

  /// Throws OptionError that names the value that is out of range.
  constexpr void validate() const {
    validate(within, "within");
    validate(between, "between");
    if (ranks_per_node < 1) throw OptionError(message({"network: a node has at least 1 rank, not ", ranks_per_node}));
  }

  /// Also throws OptionError if `world` ranks do not fill whole nodes.
  constexpr void validate(int world) const {
    validate();
    if (world < 1) throw OptionError(message({"network: a world has at least 1 rank, not ", world}));
    if (world > ranks_per_node && world % ranks_per_node != 0)
      throw OptionError(
          message({"network: ", world, " ranks do not fill nodes of ", ranks_per_node, ": use a multiple of it"}));
  }

 private:
  // Of the ranks that a call is over, those that share a node: of neighbours as many as fill it, of peers those that a
  // group's size leaves in it.
  constexpr int ranks_in_node(core::Groups groups, Ranks over) const {
    const int node = min(ranks_per_node, groups.world);
    return over == Ranks::peers ? max(1, min(groups.count(), node / groups.size)) : min(groups.ranks(over), node);
  }

  static constexpr void validate(const Link& link, const char* which) {
    if (!(link.latency >= 0) || !is_finite(link.latency))
      throw OptionError(
          message({"network: the latency ", which, " nodes must not be negative, is ", link.latency, " seconds"}));
    if (!(link.bandwidth > 0))
      throw OptionError(message(
          {"network: the bandwidth ", which, " nodes must be greater than 0, is ", link.bandwidth, " bytes a second"}));
  }
};

}  // namespace tessera
