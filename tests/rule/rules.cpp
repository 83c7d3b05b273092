#include <doctest/doctest.h>

#include <string>
#include <type_traits>
#include <vector>

#include <tessera/rule/adamw.hpp>
#include <tessera/rule/lamb.hpp>
#include <tessera/rule/lion.hpp>
#include <tessera/rule/rules.hpp>
#include <tessera/rule/schedule_free_adamw.hpp>

namespace tessera {
namespace {

using Two = Rules<Lion, AdamW>;

TEST_CASE("Rules are built from one rule of each type, or from one per hyperparameter group") {
  Two one{Lion{.lr = 1}, AdamW{.lr = 2}};
  CHECK(rule::of<0>(one).size() == 1);
  CHECK(rule::of<0>(one)[0].lr == 1);
  CHECK(rule::of<1>(one)[0].lr == 2);
  const Two groups{std::vector<Lion>(1), std::vector<AdamW>{AdamW{.lr = 3}, AdamW{.lr = 4}}};
  CHECK(rule::of<1>(groups).size() == 2);
  CHECK(rule::of<1>(groups)[1].lr == 4);
  rule::of_type<AdamW>(one)[0].lr = 5;
  CHECK(rule::of<1>(one)[0].lr == 5);
}

TEST_CASE("one rule is a set of one, whose groups are a std::vector") {
  static_assert(rule::Set<AdamW>::count == 1 && rule::Set<AdamW>::valid);
  static_assert(std::is_same_v<rule::Set<AdamW>::Groups, std::vector<AdamW>>);
  static_assert(std::is_same_v<rule::Set<AdamW>::At<0>, AdamW>);
  std::vector<AdamW> groups(3);
  CHECK(&rule::of<0>(groups) == &groups);
  CHECK(&rule::of_type<AdamW>(groups) == &groups);
}

TEST_CASE("a set is valid if all of its types are update rules") {
  static_assert(rule::Set<Two>::count == 2 && rule::Set<Two>::valid);
  static_assert(std::is_same_v<rule::Set<Two>::Groups, Two>);
  static_assert(std::is_same_v<rule::Set<Two>::At<1>, AdamW>);
  static_assert(!rule::Set<Rules<Lion, int>>::valid);
  static_assert(!rule::Set<Rules<>>::valid);
  static_assert(!rule::Set<int>::valid);
}

TEST_CASE("a set needs norms, or has evaluation weights, if one of its rules does") {
  static_assert(!rule::needs_tensor_norms<Two> && rule::needs_tensor_norms<Rules<Lion, Lamb>>);
  static_assert(!rule::has_evaluation_weights<Two> && rule::has_evaluation_weights<Rules<ScheduleFreeAdamW, Lion>>);
  static_assert(rule::needs_tensor_norms<Lamb> && !rule::needs_tensor_norms<Lion>);
}

TEST_CASE("each type is visited once, in order, and an index selects one of them") {
  std::string visited;
  rule::for_each<Rules<Lion, AdamW, Lamb>>([&](auto r) { visited += std::to_string(r) + " "; });
  CHECK(visited == "0 1 2 ");
  visited.clear();
  rule::with<Rules<Lion, AdamW, Lamb>>(1, [&](auto r) { visited += std::to_string(r); });
  rule::with<AdamW>(0, [&](auto r) { visited += std::to_string(r); });
  CHECK(visited == "10");
  std::vector<std::size_t> sizes;
  rule::for_each_type(Two{std::vector<Lion>(2), std::vector<AdamW>(3)},
                      [&](auto, const auto& groups) { sizes.push_back(groups.size()); });
  CHECK(sizes == std::vector<std::size_t>{2, 3});
}

TEST_CASE("messages name one rule, or all") {
  CHECK(rule::name<AdamW>() == "AdamW");
  CHECK(rule::name<Two>() == "Rules<Lion, AdamW>");
}

}  // namespace
}  // namespace tessera
