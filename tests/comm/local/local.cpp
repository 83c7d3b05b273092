#include <doctest/doctest.h>

#include <utility>
#include <vector>

#include <tessera/comm/local/local.hpp>

#include "comm/local/cases.hpp"

namespace tessera {
namespace {

namespace cases = local_cases;

template <class T>
class HostMemory {
 public:
  explicit HostMemory(std::vector<T> values) : values_(std::move(values)) {}
  std::span<const T> in() const { return values_; }
  std::span<T> out() { return values_; }
  std::vector<T> get() const { return values_; }

 private:
  std::vector<T> values_;
};

struct OnHost {
  using Comm = Local;
  template <class T>
  using Memory = HostMemory<T>;

  template <class F>
  static void run_once(int world, F f) {
    run_ranks(world, f);
  }
  // Once with worker threads, and once with the last rank to join performing every collective.
  template <class F>
  static void run(int world, F f) {
    for (const index_t inline_bytes : {index_t{0}, index_t{1} << 20}) run_ranks(world, f, {inline_bytes});
  }
};

TEST_CASE("reduce_scatter sums in the fixed tree, with complete, shorter and empty slices, also in place") {
  cases::reduce_scatter_sums_in_the_tree<OnHost>();
}
TEST_CASE("bfloat16 is summed in float and rounded once") { cases::bfloat16_is_summed_in_float<OnHost>(); }
TEST_CASE("sums are scaled in float before they are rounded, also in place") {
  cases::sums_are_scaled_in_float_before_they_are_rounded<OnHost>();
}
TEST_CASE("all_gather writes every slice to its offset and truncates the last ones, also in place") {
  cases::all_gather_puts_every_slice_at_its_place<OnHost>();
}
TEST_CASE("each group and each set of peers gathers its own vector") {
  cases::groups_and_peers_gather_among_themselves<OnHost>();
}
TEST_CASE("in groups, a rank gets the piece of its group's slice of the world's sum that it owns") {
  cases::in_groups_a_rank_gets_the_slice_that_divides_its_groups<OnHost>();
}
TEST_CASE("all_reduce, all_to_all and broadcast span groups and peers too") {
  cases::other_calls_span_groups_and_peers_too<OnHost>();
}
TEST_CASE("all_reduce sums floats in the tree, and integers modulo 2^64") {
  cases::all_reduce_sums_floats_and_integers<OnHost>();
}
TEST_CASE("all_to_all transposes, and broadcast copies the root's data") {
  cases::all_to_all_transposes_and_broadcast_copies<OnHost>();
}
TEST_CASE("a call of several pieces handles each of them, also shorter and empty ones") {
  cases::a_call_of_several_pieces_does_each_of_them<OnHost>();
}
TEST_CASE("a sum continues from call to call, with the bits of one call over all leaves") {
  cases::a_sum_goes_on_from_call_to_call<OnHost>();
}
TEST_CASE("if ranks continue a sum differently, all get an error") {
  cases::ranks_that_continue_a_sum_differently_all_learn_of_it<OnHost>();
}
TEST_CASE("calls that are posted together run in their order") {
  cases::calls_posted_together_are_done_in_their_order<OnHost>();
}
TEST_CASE("posting does not wait for other ranks, and operations run in the order of posting") {
  cases::posting_does_not_wait<OnHost>();
}
TEST_CASE("a collective starts after its event") {
  cases::a_collective_starts_after_its_event<OnHost>();
}
TEST_CASE("two queues that two ranks use in opposite order do not deadlock") {
  cases::queues_in_opposite_order_do_not_deadlock<OnHost>();
}
TEST_CASE("if a rank makes another call, every rank gets an error that names both ranks and both calls") {
  cases::another_call_is_named_to_every_rank<OnHost>();
}
TEST_CASE("a different root is found too") { cases::another_root_is_found<OnHost>(); }
TEST_CASE("a wait longer than the timeout names the missing ranks and each rank's position, on all ranks") {
  cases::a_long_wait_names_who_is_missing_and_where_each_rank_is<OnHost>();
}
TEST_CASE("if all ranks wait for each other's calls, each gets an error at once with all positions") {
  cases::ranks_that_all_wait_for_each_other_are_told_at_once<OnHost>();
}
TEST_CASE("a rank that throws ends the others' waits at once with its name and message, and its error is rethrown") {
  cases::a_rank_that_throws_wakes_the_others<OnHost>();
}
TEST_CASE("an error that only reports another rank's error is not rethrown as the cause") {
  cases::who_only_heard_of_an_error_is_not_its_cause<OnHost>();
}
TEST_CASE("a rank that returns while others wait for it is named") { cases::a_rank_that_returns_is_named<OnHost>(); }
TEST_CASE("a queue that is destroyed is reported to its peers as having left") {
  cases::a_queue_that_ends_has_left<OnHost>();
}
TEST_CASE("a rank that leaves a queue is reported as having left, whether or not it had joined the collective") {
  cases::who_leaves_a_queue_is_said_to_have_left<OnHost>();
}
TEST_CASE("ranks in a dropped epoch get an error that names who dropped, and the next epoch works") {
  cases::a_dropped_epoch_is_named_and_the_next_is_clean<OnHost>();
}
TEST_CASE("all ranks may drop at different positions and start again together") {
  cases::ranks_may_all_drop_and_start_again<OnHost>();
}
TEST_CASE("if a rank catches its own exception after dropping, the others do not wait for it") {
  cases::a_rank_that_caught_its_own_error_goes_on<OnHost>();
}
TEST_CASE("a queue may be destroyed while its collectives are in flight, and buffers after it") {
  cases::a_queue_may_end_with_collectives_in_flight<OnHost>();
}
TEST_CASE("after a failure every later call of every rank throws it") {
  cases::after_a_failure_every_call_throws_it<OnHost>();
}
TEST_CASE("a call that is not valid is refused before anything is sent") {
  cases::what_does_not_fit_is_refused<OnHost>();
}

TEST_CASE("run_ranks refuses a world without ranks and negative sizes") {
  CHECK_THROWS_AS(run_ranks(0, [](Local&) {}), OptionError);
  CHECK_THROWS_AS(run_ranks(2, [](Local&) {}, {-1}), OptionError);
}

}  // namespace
}  // namespace tessera
