// What a caller may choose of a training step. The same on every rank.
#pragma once

#include <chrono>
#include <limits>
#include <string>

#include <tessera/core/error.hpp>
#include <tessera/core/math.hpp>

namespace tessera {

class Timeline;

/// How the loss is scaled where the precision does so (Fp16). Defaults: Micikevicius et al. 2018 and DeepSpeed. Named
/// as in torch.amp.GradScaler, which has no hysteresis; that is DeepSpeed's.
struct LossScale {
  double initial = 65536;
  double growth_factor = 2;     ///< it is multiplied by this after growth_interval clean steps in a row
  double backoff_factor = 0.5;  ///< and by this at an overflow
  int growth_interval = 1000;
  int hysteresis = 2;  ///< the overflow that first lowers it; the count begins anew with each interval
  bool consecutive_hysteresis = false;  ///< the count begins anew after every clean step
  double least = 1;                     ///< never below
  bool dynamic = true;                  ///< false: `initial` for ever

  /// Throws OptionError.
  constexpr void validate() const {
    require(is_scale(initial), "initial must be a normal float, in [1.2e-38, 3.4e38]", initial);
    require(growth_factor > 1 && growth_factor <= most, "growth_factor must be greater than 1", growth_factor);
    require(backoff_factor > 0 && backoff_factor < 1, "backoff_factor must be in (0, 1)", backoff_factor);
    require(growth_interval >= 1, "growth_interval must be at least 1", growth_interval);
    require(hysteresis >= 1, "hysteresis must be at least 1", hysteresis);
    require(is_scale(least) && least <= initial,
            "least must be a normal float, in [1.2e-38, 3.4e38], and at most the initial scale", least);
  }

 private:
  static constexpr double most = std::numeric_limits<float>::max();

  // It is used as a float, and must have a finite reciprocal: 0 and most denormal numbers have none.
  static constexpr bool is_scale(double scale) {
    return scale > 0 && scale <= most && static_cast<float>(scale) >= std::numeric_limits<float>::min();
  }

  static constexpr void require(bool good, const char* what, double value) {
    if (!good) throw OptionError(message({"options: loss_scale.", what, ", is ", value}));
  }
};

struct Options {
  /// Passes (forward and backward) of each rank in one step.
  int micro_batches = 1;
  /// Gradients are scaled down to this global norm; infinity leaves them as they are.
  double clip_norm = std::numeric_limits<double>::infinity();
  /// Units travel together up to this many bytes of gradients. Smaller buckets lose to latency, larger ones in the
  /// first gather and the last reduction, which nothing hides. 8 MiB is within 6% of the best size at any ratio of
  /// compute to communication, for 64 units of 1 MiB on 8 ranks at 100 Gb/s; 4 MiB is within 16%, 16 MiB within 12%
  /// (bench/results/overlap.md).
  index_t bucket_bytes = index_t{8} << 20;
  /// Buckets gathered ahead of the one in use, stage 3. One hides a gather behind the bucket before it. Each more costs
  /// a bucket of memory, hides nothing more (bench/results/overlap.md), and saves gathering a bucket again at each turn
  /// between forward and backward.
  int prefetch = 1;
  /// Ranks of a group, for stages that shard over groups; others have none. Divides the world. 0: the world is one group.
  /// As many as share the fast links, such as those of a node.
  int group_size = 0;
  /// Loss scaling, for precisions that need it.
  LossScale loss_scale{};
  /// Of all random bits (stochastic rounding).
  std::uint64_t seed = 0;
  /// Every so many steps, when the first pass begins, ranks compare digests of what all of them hold whole (parameters
  /// at stages 0 to 2; master weights and state at stage 0), and whether a parameter buffer was written that nothing
  /// took since. 0: never. It reads all of that twice, and blocks on every executor.
  int check_weights = 0;
  /// Whether gradients are looked for that were written before backward() or gradients(unit) clears them (stages 0 and
  /// 1): UsageError. Reads the gradient buffer twice a pass and blocks on every executor. Ranks may differ in it.
  bool check_gradients = false;
  /// How long a rank waits for another before it says which one is missing.
  std::chrono::nanoseconds timeout = std::chrono::minutes(10);
  /// Where to write what ran when (timeline/timeline.hpp); null: nowhere.
  Timeline* timeline = nullptr;

  /// Throws OptionError that names the option out of its range.
  constexpr void validate() const {
    if (micro_batches < 1) refuse(message({"micro_batches must be at least 1, is ", micro_batches}));
    if (!(clip_norm > 0)) refuse(message({"clip_norm must be greater than 0 (infinity: no clipping), is ", clip_norm}));
    if (bucket_bytes < 1) refuse(message({"bucket_bytes must be at least 1, is ", bucket_bytes}));
    if (prefetch < 0) refuse(message({"prefetch must not be negative, is ", prefetch}));
    if (check_weights < 0) refuse(message({"check_weights must not be negative, is ", check_weights}));
    if (group_size < 0) refuse(message({"group_size must not be negative, is ", group_size}));
    loss_scale.validate();
    if (timeout <= std::chrono::nanoseconds{}) refuse("timeout must be greater than 0");
  }

  /// For the queues over which ranks agree on all of this: check() refuses a timeout out of range once all have come.
  constexpr std::chrono::nanoseconds usable_timeout() const {
    return timeout > std::chrono::nanoseconds{} ? timeout : std::chrono::seconds(60);
  }

  /// Calls visit(name, number) for all that must be the same on every rank: timeout, timeline and check_gradients
  /// need not.
  template <class Visit>
  constexpr void for_each_number(Visit visit) const {
    visit("Options::micro_batches", micro_batches);
    visit("Options::clip_norm", clip_norm);
    visit("Options::bucket_bytes", bucket_bytes);
    visit("Options::prefetch", prefetch);
    visit("Options::group_size", group_size);
    visit("Options::seed", seed);
    visit("Options::loss_scale.initial", loss_scale.initial);
    visit("Options::loss_scale.growth_factor", loss_scale.growth_factor);
    visit("Options::loss_scale.backoff_factor", loss_scale.backoff_factor);
    visit("Options::loss_scale.growth_interval", loss_scale.growth_interval);
    visit("Options::loss_scale.hysteresis", loss_scale.hysteresis);
    visit("Options::loss_scale.consecutive_hysteresis", loss_scale.consecutive_hysteresis);
    visit("Options::loss_scale.least", loss_scale.least);
    visit("Options::loss_scale.dynamic", loss_scale.dynamic);
    visit("Options::check_weights", check_weights);
  }

 private:
  [[noreturn]] static void refuse(const std::string& why) { throw OptionError(message({"options: ", why})); }
};

/// Of one backward(), for trainers that clear and accumulate gradients themselves; alike on every rank.
struct PassOptions {
  /// Whether gradients are cleared for the caller. If not, the caller's backward may run before backward() too, and what
  /// lies in the gradient buffer when it says ready is this rank's share of the whole step. Stages 0 and 1, one pass a
  /// step.
  bool zero = true;
  /// Of how many micro-batches' gradients the caller writes the sum; it is divided by that. 1: the mean, of any number.
  int sum_of = 1;
};

/// Of take_parameters(), alike on every rank.
struct TakeOptions {
  /// Whether optimizer state and step count begin again, as of a new optimizer. The loss scale stays.
  bool clear_state = false;
};

}  // namespace tessera
