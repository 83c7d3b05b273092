// How long a collective takes on a network: the alpha-beta model, a message costing a latency and its bytes over the
// bandwidth. Arithmetic only; it knows no congestion, no contention between collectives and no tuning of a library's.
//
//     one node        ring of N ranks                        N - 1 messages of 1/N of the buffer, one after another
//     several nodes   rings of the M ranks with one place    M - 1 messages of 1/N     between nodes, all rings at once
//                     in their nodes, rings of a node's L    L - 1 messages of 1/L     within nodes        (N = M L)
#pragma once

#include <limits>

#include <tessera/comm/communicator.hpp>

namespace tessera {

/// What a rank sends through. The default costs nothing.
struct Link {
  double latency = 0;                                          ///< seconds a message
  double bandwidth = std::numeric_limits<double>::infinity();  ///< bytes a second, in one direction, of one rank

  constexpr double seconds(double messages, double bytes) const noexcept {
    return messages * latency + bytes / bandwidth;
  }
};

/// Nodes of equally many ranks: ranks [0, ranks_a_node) are the first. By default all ranks are in one node.
struct Network {
  Link within{};
  Link between{};
  int ranks_a_node = std::numeric_limits<int>::max();

  /// Seconds from the moment at which all `world` ranks have come until all have the result, of a collective over
  /// `bytes`: those of the whole buffer, which one rank's slices add up to.
  ///
  ///   all_gather, reduce_scatter   one node    (N-1) alpha + (N-1)/N bytes / beta
  ///                                nodes       (L-1) alpha + (L-1)/L bytes / beta  within
  ///                                          + (M-1) alpha + (M-1)/N bytes / beta  between
  ///   all_reduce                   a reduce_scatter and an all_gather
  ///   broadcast                    a scatter and an all_gather: the same time
  ///   all_to_all                   N-1 messages of bytes / N, each through the link that leads there
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

  /// Throws OptionError that names the number out of its range.
  constexpr void validate() const {
    validate(within, "within");
    validate(between, "between");
    if (ranks_a_node < 1) throw OptionError(message({"network: a node has at least 1 rank, not ", ranks_a_node}));
  }

  /// And where so many ranks do not fill their nodes.
  constexpr void validate(int world) const {
    validate();
    if (world < 1) throw OptionError(message({"network: a world has at least 1 rank, not ", world}));
    if (world > ranks_a_node && world % ranks_a_node != 0)
      throw OptionError(
          message({"network: ", world, " ranks do not fill nodes of ", ranks_a_node, ": use a multiple of it"}));
  }

 private:
  // Of the ranks that a call is over, those that share a node: of neighbours as many as fill it, of peers those that a
  // group's size leaves in it.
  constexpr int ranks_in_node(core::Groups groups, Ranks over) const {
    const int node = min(ranks_a_node, groups.world);
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
