// The options of a training step. They must be the same on every rank, with the exceptions named here.
#pragma once

#include <chrono>
#include <limits>
#include <string>

#include <tessera/core/error.hpp>
#include <tessera/core/math.hpp>

namespace tessera {

class Timeline;

/// Loss scaling, for precisions that scale the loss (Fp16). Defaults: Micikevicius et al. 2018 and DeepSpeed. Names as
/// in torch.amp.GradScaler, except hysteresis, which is DeepSpeed's.
struct LossScale {
  double initial = 65536;
  double growth_factor = 2;     ///< multiplies the scale after growth_interval steps in a row without overflow
  double backoff_factor = 0.5;  ///< multiplies the scale at an overflow, see hysteresis
  int growth_interval = 1000;
  int hysteresis = 2;  ///< the overflow that first lowers the scale; the count restarts after each growth interval
  bool consecutive_hysteresis = false;  ///< the count restarts after every step without overflow
  double least = 1;                     ///< lower bound of the scale
  bool dynamic = true;                  ///< false: the scale is always `initial`

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

  // The scale is used as a float and must have a finite reciprocal. 0 and most denormal numbers have none.
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
  /// The global norm to which gradients are clipped; infinity: no clipping.
  double clip_norm = std::numeric_limits<double>::infinity();
  /// The maximum bytes of gradients in a bucket of several units. Smaller buckets cost latency; larger ones make the
  /// first gather and the last reduction longer, which do not overlap with compute. 8 MiB is within 6% of the best size
  /// at any ratio of compute to communication, for 64 units of 1 MiB on 8 ranks at 100 Gb/s; 4 MiB is within 16%,
  /// 16 MiB within 12% (bench/results/overlap.md).
  index_t bucket_bytes = index_t{8} << 20;
  /// Where parameters are sharded: buckets gathered ahead of the one in use. With one, a gather overlaps with the
  /// compute of the previous bucket. Each further one costs the memory of a bucket, adds no overlap
  /// (bench/results/overlap.md), and saves one gather at each change between forward and backward.
  int prefetch = 1;
  /// Ranks per group, for stages that shard over groups. Divides the world size. 0: the world is one group. Use the
  /// number of ranks that fast links connect, such as those of a node.
  int group_size = 0;
  /// Loss scaling, for precisions that need it.
  LossScale loss_scale{};
  /// The seed of all random bits (stochastic rounding).
  std::uint64_t seed = 0;
  /// Steps between two checks of weights; 0: never. When the first pass of a step begins, ranks compare digests of the
  /// arrays that several of them hold (whole ones: parameters at stages 0 to 2, master weights and state at stage 0;
  /// peers: what is sharded over groups), and check that no parameter buffer was written without take_parameters().
  /// Reads those arrays twice and blocks on every executor.
  int check_weights = 0;
  /// Stages 0 and 1: whether gradients that were written before backward() or gradients(unit) cleared them throw
  /// UsageError. Reads the gradient buffer twice per pass and blocks on every executor. Ranks may differ in it.
  bool check_gradients = false;
  /// How long a rank waits for another one before CommError names the missing ranks. Ranks may differ in it.
  std::chrono::nanoseconds timeout = std::chrono::minutes(10);
  /// Records what ran when (timeline/timeline.hpp); null: no recording. Ranks may differ in it.
  Timeline* timeline = nullptr;

  /// Throws OptionError, which names the option that is out of range.
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

  /// The timeout of the queues on which ranks compare their options. validate() refuses a timeout that is out of range,
  /// but only after all ranks have joined the comparison.
  constexpr std::chrono::nanoseconds usable_timeout() const {
    return timeout > std::chrono::nanoseconds{} ? timeout : std::chrono::seconds(60);
  }

  /// Calls visit(name, number) for each option that must be the same on every rank.
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

/// The options of one backward(), for trainers that clear and accumulate gradients themselves. The same on every rank.
struct PassOptions {
  /// Whether the library clears the gradients. If false, the caller's backward may run before backward(), and the
  /// gradient buffer at ready() is this rank's contribution to the whole step. Stages 0 and 1, one pass per step.
  bool zero = true;
  /// The number of micro-batches whose gradient sum the caller writes; the library divides by it. 1: the caller writes
  /// the mean of any number of micro-batches.
  int sum_of = 1;
};

/// The options of take_parameters(). The same on every rank.
struct TakeOptions {
  /// Whether to reset optimizer state and step count, as in a new optimizer. The loss scale does not change.
  bool clear_state = false;
};

}  // namespace tessera
