#include <doctest/doctest.h>

#include <array>
#include <cmath>
#include <fstream>
#include <sstream>
#include <string>
#include <utility>

#include <tessera/layout/plan.hpp>

namespace tessera {
namespace {

// The ZeRO paper's mixed-precision Adam: per parameter 2 bytes, 2 of gradient, 12 of master weight, momentum and
// variance.
constexpr Footprint zero_paper(int stage) {
  return {.parameters = stage >= 3 ? placement::world : placement::replicated,
          .gradients = stage >= 2 ? placement::world : placement::replicated,
          .state = stage >= 1 ? placement::world : placement::replicated,
          .reduced_in_place = true,
          .parameter_bytes = 2,
          .gradient_bytes = 2,
          .reduction_bytes = 2,
          .master_bytes = 4,
          .rules = {RuleFootprint{2, 0}},
          .agreement_words = 0};
}

constexpr double gigabytes(double parameters, int world, int stage) {
  Layout layout;
  for (const char* name : {"embedding", "body", "head"}) {
    layout.add_unit(name);
    layout.add_tensor("weight", {static_cast<index_t>(parameters / 3)});
  }
  const Sharding sharding(layout, world, 1);
  return static_cast<double>(layout::make_plan(sharding, {}, zero_paper(stage)).model_bytes()) / 1e9;
}

struct Row {
  double parameters;
  int world;
  std::array<double, 3> printed;    // stages 1 to 3
  std::array<double, 3> last_digit;  // one unit of the last printed digit
};

// Rajbhandari et al. 2020, table 1. The paper truncates some figures and rounds others.
constexpr std::array table1 = {
    Row{7.5e9, 1, {120, 120, 120}, {1, 1, 1}},
    Row{7.5e9, 4, {52.5, 41.3, 30}, {.1, .1, 1}},
    Row{7.5e9, 16, {35.6, 21.6, 7.5}, {.1, .1, .1}},
    Row{7.5e9, 64, {31.4, 16.6, 1.88}, {.1, .1, .01}},
    Row{7.5e9, 256, {30.4, 15.4, 0.47}, {.1, .1, .01}},
    Row{7.5e9, 1024, {30.1, 15.1, 0.12}, {.1, .1, .01}},
    Row{128e9, 1, {2048, 2048, 2048}, {1, 1, 1}},
    Row{128e9, 4, {896, 704, 512}, {1, 1, 1}},
    Row{128e9, 16, {608, 368, 128}, {1, 1, 1}},
    Row{128e9, 64, {536, 284, 32}, {1, 1, 1}},
    Row{128e9, 256, {518, 263, 8}, {1, 1, 1}},
    Row{128e9, 1024, {513, 257, 2}, {1, 1, 1}},
    Row{1e12, 1, {16000, 16000, 16000}, {1, 1, 1}},
    Row{1e12, 4, {7000, 5500, 4000}, {1, 1, 1}},
    Row{1e12, 16, {4750, 2875, 1000}, {1, 1, 1}},
    Row{1e12, 64, {4187, 2218, 250}, {1, 1, 1}},
    Row{1e12, 256, {4046, 2054, 62.5}, {1, 1, .1}},
    Row{1e12, 1024, {4011, 2013, 15.6}, {1, 1, .1}},
};

constexpr bool agrees(const Row& row, int stage) {
  const double difference = gigabytes(row.parameters, row.world, stage) - row.printed[stage - 1];
  return difference <= row.last_digit[stage - 1] && -difference <= row.last_digit[stage - 1];
}

template <std::size_t row>
constexpr bool row_agrees() {
  static_assert(agrees(table1[row], 1));
  static_assert(agrees(table1[row], 2));
  static_assert(agrees(table1[row], 3));
  return true;
}

template <std::size_t... rows>
constexpr bool table_agrees(std::index_sequence<rows...>) {
  return (row_agrees<rows>() && ...);
}

static_assert(table_agrees(std::make_index_sequence<table1.size()>{}), "54 figures of the ZeRO paper's table 1");

TEST_CASE("the table that is checked at compile time equals the data file") {
  std::ifstream file(TESSERA_SOURCE_DIR "/tests/layout/zero-table1.csv");
  REQUIRE(file);
  std::size_t rows = 0;
  for (std::string line; std::getline(file, line);) {
    if (line.empty() || line[0] == '#' || line.rfind("model", 0) == 0) continue;
    REQUIRE(rows < table1.size());
    std::istringstream fields(line);
    std::string field;
    std::getline(fields, field, ',');  // model
    std::getline(fields, field, ',');
    CHECK(std::stod(field) == table1[rows].parameters);
    std::getline(fields, field, ',');
    CHECK(std::stoi(field) == table1[rows].world);
    for (int stage = 1; stage <= 3; ++stage) {
      std::getline(fields, field, ',');
      CHECK(std::stod(field) == table1[rows].printed[stage - 1]);
      const auto point = field.find('.');
      const double last = point == std::string::npos ? 1 : std::pow(10.0, -double(field.size() - point - 1));
      CHECK(last == doctest::Approx(table1[rows].last_digit[stage - 1]));
    }
    ++rows;
  }
  CHECK(rows == table1.size());
}

Layout two_layers() {
  Layout layout;
  layout.add_unit("a");
  layout.add_tensor("w", {100, 10});
  layout.add_tensor("frozen", {50}, {.frozen = true});
  layout.add_unit("b");
  layout.add_tensor("w", {30});
  return layout;
}

TEST_CASE("a frozen tensor needs memory for parameters only") {
  Layout layout;
  layout.add_unit("a");
  layout.add_tensor("w", {100, 10});
  layout.add_tensor("frozen", {50}, {.frozen = true});
  const Plan plan = layout::make_plan(Sharding(layout, 1, 1), {}, zero_paper(0));
  CHECK(plan.gradients.elements == 1000);
  CHECK(plan.optimizer_state.elements == 1000);
  CHECK(plan.parameters.elements == 1024 + 50);
}

TEST_CASE("one pass needs no partial sums, and K passes need one plus the binary logarithm of K") {
  CHECK(layout::partial_sum_levels(1) == 0);
  CHECK(layout::partial_sum_levels(2) == 2);
  CHECK(layout::partial_sum_levels(3) == 2);
  CHECK(layout::partial_sum_levels(4) == 3);
  CHECK(layout::partial_sum_levels(5) == 3);
  CHECK(layout::partial_sum_levels(8) == 4);
}

TEST_CASE("one sum over all micro-batches stores between passes the partial sums of all but the last pass") {
  CHECK(layout::carried_sums(1, 7) == 0);
  for (const int world : {1, 2, 8}) {
    CHECK(layout::carried_sums(2, world) == 1);
    CHECK(layout::carried_sums(4, world) == 2);
    CHECK(layout::carried_sums(8, world) == 3);
  }
  CHECK(layout::carried_sums(2, 3) == 2);   // 3 = 0b11
  CHECK(layout::carried_sums(2, 7) == 3);   // 7 = 0b111
  CHECK(layout::carried_sums(6, 3) == 4);   // 15 = 0b1111
  CHECK(layout::carried_sums(1 << 20, 3) == 22);  // an upper bound for very many passes: 3 * (2^20 - 1) has 22 bits
}

TEST_CASE("gradients that are reduced in another type than they are written have a second buffer") {
  Footprint wide = zero_paper(1);
  wide.reduced_in_place = false;
  wide.reduction_bytes = 4;
  const Sharding sharding(two_layers(), 2, 1);
  const Plan plan = layout::make_plan(sharding, {}, wide);
  CHECK(plan.reduced_gradients.bytes() == 4 * sharding.shard_elements(sharding.trainable()));
  CHECK(layout::make_plan(sharding, {}, zero_paper(1)).reduced_gradients.bytes() == 0);
}

TEST_CASE(
    "the workspace has the size of the longest bucket's parts, if the communicator needs one and has other ranks") {
  Footprint of = zero_paper(2);
  of.partial_sums_need_workspace = true;
  const Sharding sharding(two_layers(), 3, 1);
  CHECK(layout::make_plan(sharding, {}, of).reduction_workspace.bytes() == 0);
  CHECK(layout::make_plan(sharding, {.micro_batches = 2}, of).reduction_workspace.bytes() ==
        2 * 3 * sharding.longest_part());
  of.passes_added_in_place = true;
  CHECK(layout::make_plan(sharding, {.micro_batches = 2}, of).reduction_workspace.bytes() == 0);
  of.sums_need_workspace = true;
  CHECK(layout::make_plan(sharding, {.micro_batches = 2}, of).reduction_workspace.bytes() ==
        2 * 3 * sharding.longest_part());
  CHECK(layout::make_plan(Sharding(two_layers(), 1, 1), {}, of).reduction_workspace.bytes() == 0);
}

TEST_CASE("there are never more slots than buckets") {
  const Plan plan = layout::make_plan(Sharding(two_layers(), 2, 1), {.prefetch = 7}, zero_paper(3));
  CHECK(plan.gathered_buckets.copies == 2);
  CHECK(plan.gradient_slots.copies == 2);
}

TEST_CASE("the weights stored during evaluation have the elements that a rank updates") {
  const Sharding sharding(two_layers(), 2, 1);
  for (const int stage : {0, 3}) {
    Footprint of = zero_paper(stage);
    CHECK(layout::make_plan(sharding, {}, of).training_weights.bytes() == 0);
    of.training_weight_bytes = 2;
    CHECK(layout::make_plan(sharding, {}, of).training_weights.bytes() ==
          2 * layout::make_plan(sharding, {}, of).optimizer_state.elements);
  }
}

TEST_CASE("every allocation has a name, and their sizes add up to the total") {
  Footprint of = zero_paper(3);
  of.training_weight_bytes = 2;
  const Plan plan = layout::make_plan(Sharding(two_layers(), 2, 1), {.micro_batches = 3}, of);
  index_t sum = 0;
  for (const Allocation& allocation : plan.allocations()) {
    CHECK(std::string(allocation.name) != "");
    sum += allocation.bytes();
  }
  CHECK(sum == plan.bytes());
}

TEST_CASE("sizes beyond 2^31 can be planned") {
  Layout layout;
  layout.add_unit("huge");
  layout.add_tensor("w", {index_t{1} << 40});
  const Plan plan = layout::make_plan(Sharding(layout, 3, 1), {}, zero_paper(3));
  CHECK(plan.parameters.elements == round_up(ceil_div(index_t{1} << 40, 3), block));
}

}  // namespace
}  // namespace tessera
