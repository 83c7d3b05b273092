#include <doctest/doctest.h>

#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include <tessera/checkpoint/manifest.hpp>
#include <tessera/rule/adamw.hpp>
#include <tessera/rule/lion.hpp>
#include <tessera/rule/schedule_free_adamw.hpp>
#include <tessera/rule/sgd.hpp>

#include "scratch.hpp"

namespace tessera::checkpoint {
namespace {

using doctest::Contains;
using testing::Scratch;

template <class Number>
Number there_and_back(Number number) {
  const Json json = Json::parse(Json::array({number_to_json(number)}).dump());
  Number back{};
  number_from_json(json.at(0), back);
  return back;
}

TEST_CASE("numbers keep their bits, those that JSON does not have too") {
  for (const float x : {0.1f, -0.0f, 1e-45f, 3.4e38f, std::numeric_limits<float>::infinity(), -1.0f / 3})
    CHECK(bits_as<std::uint32_t>(there_and_back(x)) == bits_as<std::uint32_t>(x));
  for (const double x : {0.1, -0.0, 5e-324, 1.7e308, -std::numeric_limits<double>::infinity(), 1.0 / 3})
    CHECK(bits_as<std::uint64_t>(there_and_back(x)) == bits_as<std::uint64_t>(x));
  CHECK(std::isnan(there_and_back(std::numeric_limits<float>::quiet_NaN())));
  CHECK(there_and_back(~std::uint64_t{0}) == ~std::uint64_t{0});
  CHECK(there_and_back(std::numeric_limits<index_t>::min()) == std::numeric_limits<index_t>::min());
  CHECK(there_and_back(true));
}

TEST_CASE("a number of another kind, or out of its type's range, is refused") {
  int number = 7;
  for (const Json& json : {Json(1.5), Json(std::int64_t{1} << 40), Json(-(std::int64_t{1} << 40)), Json(~std::uint64_t{0})})
    CHECK_THROWS_AS(number_from_json(json, number), CheckpointError);
  CHECK_THROWS_AS(number_from_json(Json("7"), number), CheckpointError);
  float small = 7;
  CHECK_THROWS_AS(number_from_json(Json(1e300), small), CheckpointError);
  CHECK_THROWS_AS(number_from_json(Json("7"), small), nlohmann::json::exception);
  CHECK(small == 7);
  std::uint64_t positive = 7;
  CHECK_THROWS_AS(number_from_json(Json(-1), positive), CheckpointError);
  CHECK(number == 7);
  CHECK(positive == 7);
}

TEST_CASE("a checksum has 16 digits") {
  CHECK(number_of_hex(hex(0x0123456789abcdefu)) == 0x0123456789abcdefu);
  for (const char* text : {"", "1", "0123456789abcdeg", "-123456789abcdef", " 123456789abcdef", "0123456789abcdef0"})
    CHECK_THROWS_AS(number_of_hex(text), CheckpointError);
}

TEST_CASE("a rule is read as it was written, flags and enumerations too, and one with other names is refused") {
  ScheduleFreeAdamW rule{.lr = 0.25f, .variant = ScheduleFreeAdamW::Variant::package}, back;
  rule_from_json(rule_to_json(rule), back);
  CHECK(back.lr == 0.25f);
  CHECK(back.variant == ScheduleFreeAdamW::Variant::package);
  Sgd sgd;
  CHECK_THROWS_WITH_AS(rule_from_json(rule_to_json(AdamW{}), sgd),
                       "hyperparameter 2 of Sgd is 'beta1' in the checkpoint, and 'momentum' in this program",
                       CheckpointError);
  Json more = rule_to_json(sgd);
  more.push_back(Json::array({"extra", 1}));
  CHECK_THROWS_WITH_AS(rule_from_json(more, sgd), Contains("Sgd has 6 hyperparameters in the checkpoint, and 5"),
                       CheckpointError);
}

TEST_CASE("a control state is read as it was written, for one rule and for several") {
  ControlState<AdamW> state;
  state.steps = 3;
  state.attempts = 4;
  state.loss_scale = 128;
  state.seed = ~std::uint64_t{0};
  state.rules = {AdamW{.lr = 1}, AdamW{.lr = 2}};
  state.first_rules = {AdamW{.lr = 3}, AdamW{.lr = 4}};
  const auto back = control_from_json<AdamW>(Json::parse(control_to_json(state).dump()));
  CHECK(back.steps == 3);
  CHECK(back.attempts == 4);
  CHECK(back.loss_scale == 128);
  CHECK(back.seed == state.seed);
  CHECK(back.clip_norm == state.clip_norm);
  REQUIRE(back.rules.size() == 2);
  CHECK(back.rules[1].lr == 2);
  CHECK(back.first_rules[1].lr == 4);
  using Two = Rules<Lion, AdamW>;
  ControlState<Two> several;
  several.rules = several.first_rules = Two{std::vector<Lion>{Lion{.lr = 5}}, std::vector<AdamW>(2, AdamW{.lr = 6})};
  const auto both = control_from_json<Two>(control_to_json(several));
  CHECK(rule::of<0>(both.rules)[0].lr == 5);
  REQUIRE(rule::of<1>(both.rules).size() == 2);
  CHECK(rule::of<1>(both.rules)[1].lr == 6);
}

Layout layout_of(const char* name, index_t size, const TensorOptions& options = {}) {
  Layout layout;
  layout.add_unit("u");
  layout.add_tensor("same", {3});
  layout.add_tensor(name, {size}, options);
  return layout;
}

TEST_CASE("tensors that differ in name, shape, rule, group or freezing are refused with both values") {
  const Json saved = describe_tensors(layout_of("w", 4));
  CHECK_NOTHROW(check_tensors(saved, layout_of("w", 4)));
  const auto refused = [&](const Layout& layout, const char* why) {
    CHECK_THROWS_WITH_AS(check_tensors(saved, layout), Contains(why), CheckpointError);
  };
  refused(layout_of("v", 4), "has no tensor 'u.v', which the layout has");
  refused(layout_of("w", 5), "tensor 'u.w' has shape [4] in the checkpoint, and [5] in the layout");
  refused(layout_of("w", 4, {.frozen = true}), "tensor 'u.w' has frozen false in the checkpoint, and true");
  refused(layout_of("w", 4, {.group = 1}), "has group 0 in the checkpoint, and 1");
  refused(layout_of("w", 4, {.rule = 1}), "has rule 0 in the checkpoint, and 1");
  Layout less;
  less.add_unit("u");
  less.add_tensor("same", {3});
  refused(less, "has a tensor 'u.w', which the layout does not have");
}

TEST_CASE("units may be in another order") {
  Layout one, other;
  for (const char* name : {"a", "b"}) one.add_unit(name), one.add_tensor("w", {4});
  for (const char* name : {"b", "a"}) other.add_unit(name), other.add_tensor("w", {4});
  CHECK_NOTHROW(check_tensors(describe_tensors(one), other));
}

TEST_CASE("a file that is no JSON object, or lacks a member, is refused with its name") {
  const Scratch scratch;
  testing::write(scratch / "f", with_checksum("{]"));
  CHECK_THROWS_WITH_AS(read_json(scratch / "f"), Contains("/f: is not a JSON object"), CheckpointError);
  testing::write(scratch / "f", with_checksum("{\"a\": 1}"));
  const Json json = read_json(scratch / "f");
  CHECK(json.at("a") == 1);
  CHECK_THROWS_WITH_AS(reading("f", [&] { return json.at("b").get<int>(); }), Contains("f: does not have the format"),
                       CheckpointError);
  CHECK_THROWS_WITH_AS(reading("f", [] { throw CheckpointError("has a fault"); }), "f: has a fault", CheckpointError);
}

}  // namespace
}  // namespace tessera::checkpoint
