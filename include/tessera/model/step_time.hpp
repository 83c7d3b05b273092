// How long a step takes, computed from the times of its computation and its collectives: runs the engine's schedule on
// numbers instead of memory. It moves no data and measures nothing.
//
//     compute   | F0 | F1 | F2 | B2 | B1 | B0 |.. waits ..| update |
//     wire      | g0 | g1 | g2 |    | r2 | r1 | r0 | agree |  | g0 ...      stages 1 and 2
//
// It waits where the engine waits. tests/model/step_time.cpp runs the engine itself on such a clock and gets the same
// seconds, up to rounding.
#pragma once

#include <span>
#include <vector>

#include <tessera/model/network.hpp>
#include <tessera/core/math.hpp>
#include <tessera/engine/memory/gathered_pool.hpp>
#include <tessera/engine/memory/gradient_slots.hpp>
#include <tessera/layout/plan.hpp>

namespace tessera {

/// Seconds that a rank computes for one unit: forward and backward of one micro-batch, and update of its shard.
struct UnitSeconds {
  double forward = 0;
  double backward = 0;
  double update = 0;
};

/// The time of one step in a long run, from the end of one step() to the end of the next, on one rank. In seconds.
struct StepTime {
  double seconds = 0;
  double compute = 0;
  double communication = 0;  ///< the sum over all collectives, as if none overlapped
  double exposed = 0;        ///< time in which computation waited for communication: seconds - compute
  double sent_bytes = 0;     ///< per rank, with algorithms that send nothing twice
};

namespace model {

/// A rank's clock, advanced by the training loop. All ranks run at the same speed. Collectives use the rank's one link
/// one after another, in the order in which they are posted.
class StepClock {
 public:
  /// units: one per unit of the layout; a flat layout's one is spread evenly over its elements. All arguments must
  /// outlive the clock. Throws OptionError if the number differs, LayoutError for a flat layout at stages 2 and 3.
  constexpr StepClock(const Sharding& sharding, const Footprint& of, const Options& options,
                      std::span<const UnitSeconds> units, const Network& network)
      : sharding_(sharding),
        of_(of),
        options_(options),
        network_(network),
        plan_(layout::make_plan(sharding, options, of)),
        reduced_(to_size(sharding.buckets()), 0.0),
        gathered_(to_size(sharding.buckets()), 0.0),
        gradient_slots_(plan_.gradient_slots.copies, sharding.buckets()),
        pool_(sharding, plan_.gathered_buckets.copies, options.prefetch) {
    const Layout& layout = sharding.layout();
    if (static_cast<int>(units.size()) != layout.units())
      throw OptionError(message(
          {"step_time: the layout has ", layout.units(), " units, but seconds of ", units.size(), " were given"}));
    if (layout.is_flat() && of.gradients.sharded())
      throw LayoutError("step_time: a flat layout keeps its gradients in the caller's buffer: stages 0 and 1");
    if (layout.is_flat())
      for (int b = 0; b < sharding.buckets(); ++b) pieces_.push_back({b, part(units[0], b), {{Unit{0}, b}}});
    else
      for (const Unit u : layout.forward())
        pieces_.push_back({sharding.bucket_of(u), units[to_size(u.index)], {{u, sharding.bucket_of(u)}}});
    for (const Unit owner : layout.forward())
      layout.for_each_user(owner, [&](Unit user) {
        pieces_[to_size(user.index)].uses.push_back({owner, sharding.bucket_of(owner)});
      });
  }

  /// The training loop of docs/design.md, section 1, for one step.
  constexpr StepTime step() {
    const double began = now_;
    time_ = {};
    left_behind_.clear();
    double repeated = 0;
    const int others = options_.micro_batches - 1;  // passes before the last
    for (int pass = 0; pass < others; ++pass) {
      const double pass_began = now_;
      const StepTime before = time_;
      run_pass(false);
      if (!settled(now_ - pass_began)) continue;
      const double more = others - 1 - pass;  // further passes that are equal to this one
      repeated = more * (now_ - pass_began);
      time_.compute += more * (time_.compute - before.compute);
      time_.communication += more * (time_.communication - before.communication);
      time_.exposed += more * (time_.exposed - before.exposed);
      time_.sent_bytes += more * (time_.sent_bytes - before.sent_bytes);
      break;
    }
    run_pass(true);
    finish();
    update();
    time_.seconds = now_ - began + repeated;
    return time_;
  }

 private:
  struct Use {
    Unit unit{};
    int bucket = 0;
  };
  // What is computed without a wait in between: a unit, or the part of a flat layout in one bucket.
  struct Piece {
    int bucket = 0;
    UnitSeconds seconds{};
    std::vector<Use> uses{};  // the unit itself, then the units that it is tied to
  };
  using Pool = engine::GatheredPool<double>;

  constexpr UnitSeconds part(const UnitSeconds& of, int b) const {
    const double share = static_cast<double>(elements(b)) /
                         static_cast<double>(max(sharding_.layout().trainable_elements(), index_t{1}));
    return {of.forward * share, of.backward * share, of.update * share};
  }

  constexpr int pieces() const { return static_cast<int>(pieces_.size()); }
  // Elements of a bucket in the spaces of rules, which one collective moves.
  constexpr index_t elements(int b) const { return elements(b, sharding_.trainable()); }
  constexpr index_t elements(int b, layout::Spaces spaces) const {
    index_t sum = 0;
    for (int s = spaces.first; s < spaces.last; ++s) sum += sharding_.range(b, s).size();
    return sum;
  }

  // Whether a pass ended in the same state as the one before: then all later passes take equally long, so a step of
  // many micro-batches is computed from a few. An event that is already done counts as 0.
  constexpr bool settled(double seconds) {
    std::vector<double> left;
    const auto still = [&](double event) { left.push_back(event > now_ ? (event - now_) / seconds : 0); };
    still(wire_);
    for (const double reduced : reduced_) still(reduced);
    for (const double gathered : gathered_) still(gathered);
    for (const auto& slot : gradient_slots_) still(slot.reduced);
    for (const Pool::Slot& slot : pool_) {
      still(slot.ready);
      left.push_back(slot.bucket);
    }
    bool same = left.size() == left_behind_.size();
    for (std::size_t i = 0; same && i < left.size(); ++i) {
      const double change = left[i] - left_behind_[i];
      same = max(change, -change) <= 1e-11;
    }
    left_behind_ = left;
    return same;
  }

  // Computing, waiting, sending.

  constexpr void compute(double seconds) {
    now_ += seconds;
    time_.compute += seconds;
  }

  constexpr void wait(double event) {
    if (event <= now_) return;
    time_.exposed += event - now_;
    now_ = event;
  }

  // When a collective posted now will have ended: all take turns on the rank's one link, whichever queue they are of
  // (model/simulated.hpp).
  constexpr double post(Collective kind, index_t bytes, Ranks over = Ranks::world) {
    const double ranks = sharding_.groups().ranks(over);
    const double seconds = network_.seconds(kind, static_cast<double>(bytes), sharding_.groups(), over);
    time_.communication += seconds;
    time_.sent_bytes += (kind == Collective::all_reduce ? 2 : 1) * (ranks - 1) / ranks * static_cast<double>(bytes);
    return wire_ = max(wire_, now_) + seconds;
  }

  // Forward and backward: engine/step/pass.hpp. last: the last pass of the step.

  constexpr void run_pass(bool last) {
    last_pass_ = last;
    for (int p = 0; p < pieces(); ++p) {
      gather(pieces_[to_size(p)]);
      compute(pieces_[to_size(p)].seconds.forward);
    }
    backward();
  }

  constexpr void backward() {
    if (sharding_.layout().is_flat())
      for (int b = 0; b < sharding_.buckets(); ++b) open_gradients(b);
    pool_.set_direction(-1);
    for (int p = pieces() - 1; p >= 0; --p) {
      const Piece& piece = pieces_[to_size(p)];
      gather(piece);
      for (const Use& use : piece.uses) open_gradients(use.bucket);
      compute(piece.seconds.backward);
      if (p == 0 || pieces_[to_size(p - 1)].bucket != piece.bucket) depart(piece.bucket);
    }
    pool_.set_direction(1);
  }

  // Gradients and their reduction: engine/memory/gradients.hpp, engine/memory/reduce.hpp.

  constexpr void open_gradients(int b) {
    if (elements(b) == 0) return;
    if (!of_.gradients.sharded()) return wait(reduced_[to_size(b)]);
    if (gradient_slots_.find(b)) return;
    const auto* const slot = gradient_slots_.take(b);
    if (!slot) refuse("gradient slots");
    wait(slot->reduced);
  }

  constexpr void depart(int b) {
    if (elements(b) == 0) return;
    reduced_[to_size(b)] = post(Collective::reduce_scatter, elements(b) * of_.gradient_bytes);
    if (of_.gradients.sharded()) gradient_slots_.send(b, reduced_[to_size(b)]);
    if (last_pass_) share(b);
  }

  constexpr void share(int b) {
    if (of_.state == placement::world) return;
    reduced_[to_size(b)] = post(Collective::all_gather, part(b, of_.state) * of_.reduction_bytes, owners_of(of_.state));
  }

  // Of what is so placed a rank holds one part; and the ranks that own what it holds, from whom it is gathered.
  constexpr index_t part(int b, Placement where) const {
    index_t sum = 0;
    for (int s = 0; s < sharding_.layout().rules(); ++s)
      sum += min(sharding_.partition().part(sharding_.piece(b, s), where.extent), sharding_.range(b, s).size());
    return sum;
  }
  static constexpr Ranks owners_of(Placement where) {
    return where == placement::group ? Ranks::peers : Ranks::world;
  }

  constexpr void finish() {
    for (const double reduced : reduced_) wait(reduced);
    wait(post(Collective::all_reduce, plan_.agreement.bytes()));
  }

  constexpr void update() {
    for (const double gathered : gathered_) wait(gathered);
    for (const Pool::Slot& slot : pool_) wait(slot.ready);
    pool_.expire();
    if (of_.state.sharded() && plan_.tensor_norms.bytes() > 0)
      wait(post(Collective::all_reduce, plan_.tensor_norms.bytes()));
    for (int p = 0; p < pieces(); ++p) {
      const int b = pieces_[to_size(p)].bucket;
      compute(pieces_[to_size(p)].seconds.update);
      const bool complete = p + 1 == pieces() || pieces_[to_size(p + 1)].bucket != b;
      if (complete && of_.state.extent > of_.parameters.extent && elements(b) > 0)
        gathered_[to_size(b)] =
            post(Collective::all_gather, part(b, of_.parameters) * of_.parameter_bytes, owners_of(of_.parameters));
    }
  }

  // Parameters: engine/memory/whole_parameters.hpp, engine/memory/sharded_parameters.hpp.

  constexpr void gather(const Piece& piece) {
    const auto post_gather = [&](Pool::Slot& slot) {
      if (const index_t n = elements(slot.bucket, sharding_.all_spaces()); n > 0)
        slot.ready = post(Collective::all_gather, n * of_.parameter_bytes,
                          of_.parameters == placement::group ? Ranks::group : Ranks::world);
    };
    for (const Use& use : piece.uses)
      wait(of_.parameters.sharded() ? pool_.gather(use.unit, post_gather).ready : gathered_[to_size(use.bucket)]);
  }

  [[noreturn]] static void refuse(const char* what) {
    throw LayoutError(message({"step_time: a unit and the units tied to it need more ", what, " than there are"}));
  }

  const Sharding& sharding_;
  const Footprint& of_;
  const Options& options_;
  const Network& network_;
  Plan plan_;
  std::vector<Piece> pieces_;
  StepTime time_;
  double now_ = 0;
  double wire_ = 0;       // the end of the last collective
  std::vector<double> reduced_;  // by bucket: the end of its last collective
  std::vector<double> gathered_;
  engine::GradientSlots<double> gradient_slots_;
  Pool pool_;
  std::vector<double> left_behind_;  // the state after the previous pass
  bool last_pass_ = true;
};

}  // namespace model

/// The time of a step in a long run, in which each step begins with the gathers of the step before in flight.
/// Throws OptionError if the number of `units` differs from the layout's, or if options or network are not valid.
constexpr StepTime step_time(const Sharding& sharding, const Footprint& of, const Options& options,
                             std::span<const UnitSeconds> units, const Network& network) {
  options.validate();
  network.validate();
  model::StepClock clock(sharding, of, options, units, network);
  clock.step();  // ends with gathers in flight, so the next step begins as in a long run
  return clock.step();
}

}  // namespace tessera
