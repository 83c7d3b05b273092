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
  // By the workers, and by the rank that comes last.
  template <class F>
  static void run(int world, F f) {
    for (const index_t inline_bytes : {index_t{0}, index_t{1} << 20}) run_ranks(world, f, {inline_bytes});
  }
};

TEST_CASE("reduce_scatter sums in the fixed tree, whole, ragged, short, empty and in place") {
  cases::reduce_scatter_sums_in_the_tree<OnHost>();
}
TEST_CASE("bfloat16 is summed in float and rounded once") { cases::bfloat16_is_summed_in_float<OnHost>(); }
TEST_CASE("sums are scaled in float before they are rounded, in place too") {
  cases::sums_are_scaled_in_float_before_they_are_rounded<OnHost>();
}
TEST_CASE("all_gather puts every slice at its place and truncates the last ones, in place too") {
  cases::all_gather_puts_every_slice_at_its_place<OnHost>();
}
TEST_CASE("groups and peers gather among themselves, each its own vector") {
  cases::groups_and_peers_gather_among_themselves<OnHost>();
}
TEST_CASE("in groups, a rank gets the slice of the world's sum that divides its group's") {
  cases::in_groups_a_rank_gets_the_slice_that_divides_its_groups<OnHost>();
}
TEST_CASE("all_reduce, all_to_all and broadcast span groups and peers too") {
  cases::other_calls_span_groups_and_peers_too<OnHost>();
}
TEST_CASE("all_reduce sums floats in the tree, and integers modulo 2^64") {
  cases::all_reduce_sums_floats_and_integers<OnHost>();
}
TEST_CASE("all_to_all transposes, and broadcast copies the root's") {
  cases::all_to_all_transposes_and_broadcast_copies<OnHost>();
}
TEST_CASE("a call of several pieces does each of them, ragged and empty ones too") {
  cases::a_call_of_several_pieces_does_each_of_them<OnHost>();
}
TEST_CASE("a sum goes on from call to call, with the bits of one call over all leaves") {
  cases::a_sum_goes_on_from_call_to_call<OnHost>();
}
TEST_CASE("ranks that continue a sum differently all learn of it") {
  cases::ranks_that_continue_a_sum_differently_all_learn_of_it<OnHost>();
}
TEST_CASE("calls that are posted together are done in their order") {
  cases::calls_posted_together_are_done_in_their_order<OnHost>();
}
TEST_CASE("posting does not wait for other ranks, and operations run in the order issued") {
  cases::posting_does_not_wait<OnHost>();
}
TEST_CASE("a collective starts after the event that it is given") {
  cases::a_collective_starts_after_its_event<OnHost>();
}
TEST_CASE("two queues used in opposite order by two ranks do not deadlock") {
  cases::queues_in_opposite_order_do_not_deadlock<OnHost>();
}
TEST_CASE("a rank that calls something else gives every rank an error that names both ranks and both calls") {
  cases::another_call_is_named_to_every_rank<OnHost>();
}
TEST_CASE("another root is found as well") { cases::another_root_is_found<OnHost>(); }
TEST_CASE("a wait longer than the timeout names who is missing and where each rank is, to everybody") {
  cases::a_long_wait_names_who_is_missing_and_where_each_rank_is<OnHost>();
}
TEST_CASE("ranks that all wait for each other's calls are told so at once, and where each of them waits") {
  cases::ranks_that_all_wait_for_each_other_are_told_at_once<OnHost>();
}
TEST_CASE("a rank that throws wakes the others at once, with its name and message, and its error comes out") {
  cases::a_rank_that_throws_wakes_the_others<OnHost>();
}
TEST_CASE("the error of a rank that only heard of another's is not taken for the cause") {
  cases::who_only_heard_of_an_error_is_not_its_cause<OnHost>();
}
TEST_CASE("a rank that returns while others wait for it is named") { cases::a_rank_that_returns_is_named<OnHost>(); }
TEST_CASE("a queue that is destroyed has left, which its peers are told") {
  cases::a_queue_that_ends_has_left<OnHost>();
}
TEST_CASE("a rank that leaves a queue is said to have left, whether or not it had joined what others wait for") {
  cases::who_leaves_a_queue_is_said_to_have_left<OnHost>();
}
TEST_CASE("a dropped epoch is named to those still in it, and the next one is clean") {
  cases::a_dropped_epoch_is_named_and_the_next_is_clean<OnHost>();
}
TEST_CASE("ranks may all drop, each at another place, and start again together") {
  cases::ranks_may_all_drop_and_start_again<OnHost>();
}
TEST_CASE("a rank that caught its own exception after dropping does not leave the others waiting") {
  cases::a_rank_that_caught_its_own_error_goes_on<OnHost>();
}
TEST_CASE("a queue may be destroyed while its collectives are in flight, and buffers after it") {
  cases::a_queue_may_end_with_collectives_in_flight<OnHost>();
}
TEST_CASE("after a failure every later call of every rank throws it") {
  cases::after_a_failure_every_call_throws_it<OnHost>();
}
TEST_CASE("what does not fit is refused before anything is sent") { cases::what_does_not_fit_is_refused<OnHost>(); }

TEST_CASE("run_ranks refuses a world without ranks and negative sizes") {
  CHECK_THROWS_AS(run_ranks(0, [](Local&) {}), OptionError);
  CHECK_THROWS_AS(run_ranks(2, [](Local&) {}, {-1}), OptionError);
}

}  // namespace
}  // namespace tessera
