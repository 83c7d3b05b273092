#include <doctest/doctest.h>

#include <string>
#include <string_view>
#include <utility>

#include <tessera/layout/layout.hpp>

namespace tessera {
namespace {


TEST_CASE("tensors are contiguous in a unit, and a unit starts at a multiple of 64 elements") {
  Layout layout;
  layout.add_unit("a");
  const Tensor w = layout.add_tensor("w", {3, 5});
  const Tensor b = layout.add_tensor("b", {3});
  layout.add_unit("b");
  const Tensor w2 = layout.add_tensor("w", {7});
  CHECK(layout.offset(w) == 0);
  CHECK(layout.offset(b) == 15);
  CHECK(layout.offset(w2) == 64);
  CHECK(layout.trainable_elements() == 71);
  CHECK(layout.parameter_elements() == 71);
  CHECK(layout.parameters() == 25);
  CHECK(layout.name(b) == "a.b");
  CHECK(layout.find("b.w") == w2);
  CHECK(layout.shape(w).size() == 2);
  CHECK(layout.shape(w)[1] == 5);
}

TEST_CASE("frozen tensors come after all trainable ones in the parameter buffer") {
  Layout layout;
  layout.add_unit("a");
  const Tensor frozen = layout.add_tensor("frozen", {10}, {.frozen = true});
  const Tensor w = layout.add_tensor("w", {10});
  layout.add_unit("b");
  const Tensor more = layout.add_tensor("frozen", {1}, {.frozen = true});
  const Tensor w2 = layout.add_tensor("w", {100});
  CHECK(layout.offset(w) == 0);
  CHECK(layout.offset(w2) == 64);
  CHECK(layout.trainable_elements() == 164);
  CHECK(layout.offset(frozen) == 192);
  CHECK(layout.offset(more) == 192 + 64);
  CHECK(layout.parameter_elements() == 192 + 65);
}

TEST_CASE("a layout is usable in constant expressions") {
  constexpr auto elements = [] {
    Layout layout;
    layout.add_unit("a");
    layout.add_tensor("w", {3, 5});
    layout.add_unit("b");
    layout.add_tensor("w", {7});
    return layout.trainable_elements();
  };
  static_assert(elements() == 71);
}

TEST_CASE("names can be looked up in constant expressions") {
  constexpr auto place = [](std::string_view name) {
    Layout layout;
    layout.add_unit("a");
    layout.add_tensor("w", {3, 5});
    layout.add_unit("b");
    layout.add_tensor("w", {7});
    return layout.offset(layout.find(name));
  };
  static_assert(place("a.w") == 0);
  static_assert(place("b.w") == 64);
}

// Compilers limit the evaluation of one constant expression (g++: 2^25 operations, clang: 2^20 steps, of which clang 16
// needs 1.3 million for a thousand units). Comparing every name with every other would exceed the limit.
TEST_CASE("a layout of five hundred tensors is a constant expression, in one unit or in five hundred") {
  constexpr auto elements = [](bool apart) {
    Layout layout;
    for (int i = 0; i < 500; ++i) {
      const char name[] = {static_cast<char>('0' + i / 100), static_cast<char>('0' + i / 10 % 10),
                           static_cast<char>('0' + i % 10)};
      const std::string_view number(name, 3);
      if (i == 0 || apart) layout.add_unit(number);
      layout.add_tensor(number, {64});
    }
    return layout.trainable_elements();
  };
  static_assert(elements(false) == 500 * 64);
  static_assert(elements(true) == 500 * 64);
}

TEST_CASE("a layout with a thousand ties, and a query of each unit's ties, are constant expressions") {
  constexpr auto found = [] {
    Layout layout;
    for (int u = 0; u < 500; ++u) {
      const char name[] = {static_cast<char>('0' + u / 100), static_cast<char>('0' + u / 10 % 10),
                           static_cast<char>('0' + u % 10)};
      layout.add_unit(std::string_view(name, 3));
      if (u > 1) layout.tie(Unit{u}, Unit{0});
      if (u > 0) layout.tie(Unit{u}, Unit{u - 1});
    }
    int count = layout.tied_units();
    for (const Unit u : layout.forward()) {
      count += u.index > 0 && layout.tied(u, Unit{u.index - 1});
      layout.for_each_owner(u, [&](Unit) { ++count; });
      layout.for_each_user(u, [&](Unit) { ++count; });
    }
    return count;
  };
  static_assert(found() == 499 + 499 + 2 * (498 + 499));
}

TEST_CASE("a tensor is found by its full name, and the first one if dots in names make it ambiguous") {
  Layout layout;
  layout.add_unit("a");
  const Tensor ab_c = layout.add_tensor("b.c", {1});
  const Tensor empty = layout.add_tensor("", {1});
  layout.add_unit("a.b");
  const Tensor c = layout.add_tensor("c", {1});
  const Tensor d = layout.add_tensor("d", {1});
  layout.add_unit("");
  const Tensor of_nameless = layout.add_tensor("x", {1});
  CHECK(layout.name(c) == layout.name(ab_c));
  CHECK(layout.find("a.b.c") == ab_c);
  CHECK(layout.find("a.b.d") == d);
  CHECK(layout.find("a.") == empty);
  CHECK(layout.find(".x") == of_nameless);
  for (const char* none : {"", ".", "a", "a.b", "b.c", "a.b.c.", "a.b.e", "c"})
    CHECK_THROWS_AS(static_cast<void>(layout.find(none)), LayoutError);
}

TEST_CASE("the tensor of an element is found between frozen and empty tensors") {
  Layout layout;
  for (int u = 0; u < 4; ++u) {
    layout.add_unit("u" + std::to_string(u));
    for (int t = 0; t < 9; ++t)
      layout.add_tensor("t" + std::to_string(t), {u == 2 ? 0 : (u + 2 * t) % 5 * 7}, {.frozen = (u + t) % 3 == 0});
  }
  for (index_t place = -1; place < layout.trainable_elements() + 2; ++place) {
    std::string expected = "padding";
    for (const Tensor t : layout.tensors())
      if (!layout.frozen(t) && layout.place(t).begin <= place && place < layout.place(t).end) expected = layout.name(t);
    CHECK(layout.name_at(place) == expected);
  }
  CHECK(Layout{}.name_at(0) == "padding");
  CHECK(Layout::flat(1000).name_at(777) == "flat.buffer[777]");
}

TEST_CASE("the number of hyperparameter groups is the largest group of a tensor plus one") {
  Layout layout;
  CHECK(layout.groups() == 1);
  layout.add_unit("a");
  layout.add_tensor("v", {1}, {.group = 2});
  CHECK(layout.groups() == 3);
  layout.add_tensor("w", {1});
  CHECK(layout.groups() == 3);
}

TEST_CASE("a scalar has one element and an empty tensor none") {
  Layout layout;
  layout.add_unit("a");
  CHECK(layout.elements(layout.add_tensor("scalar", {})) == 1);
  CHECK(layout.elements(layout.add_tensor("empty", {0, 5})) == 0);
}

TEST_CASE("a flat layout is one range without gaps") {
  const Layout layout = Layout::flat(1000);
  CHECK(layout.is_flat());
  CHECK(layout.trainable_elements() == 1000);
  CHECK(layout.parameter_elements() == 1000);
}

TEST_CASE("a layout that is not valid is refused with the name") {
  Layout layout;
  CHECK_THROWS_WITH_AS(static_cast<void>(layout.add_tensor("w", {1})), doctest::Contains("'w' has no unit"),
                       LayoutError);
  layout.add_unit("a");
  layout.add_tensor("w", {1});
  CHECK_THROWS_WITH_AS(static_cast<void>(layout.add_unit("a")), doctest::Contains("two units are named 'a'"),
                       LayoutError);
  CHECK_THROWS_WITH_AS(static_cast<void>(layout.add_tensor("w", {1})),
                       doctest::Contains("unit 'a' has two tensors named 'w'"), LayoutError);
  CHECK_THROWS_WITH_AS(static_cast<void>(layout.add_tensor("x", {2, -1})), doctest::Contains("'x' has a negative size"),
                       LayoutError);
  CHECK_THROWS_WITH_AS(static_cast<void>(layout.add_tensor("x", {index_t{1} << 40, index_t{1} << 40})),
                       doctest::Contains("'x' has more than 2^55"), LayoutError);
  CHECK_THROWS_WITH_AS(static_cast<void>(layout.add_tensor("x", {1}, {.group = -1})),
                       doctest::Contains("'x' has a negative hyperparameter group"), LayoutError);
  CHECK_THROWS_WITH_AS(static_cast<void>(layout.find("a.y")), doctest::Contains("no tensor 'a.y'"), LayoutError);
  CHECK_THROWS_WITH_AS(static_cast<void>(layout.offset(Tensor{9})), doctest::Contains("there is no tensor 9"),
                       LayoutError);
  CHECK_THROWS_WITH_AS(static_cast<void>(layout.trainable(Unit{-1})), doctest::Contains("there is no unit -1"),
                       LayoutError);
  CHECK(layout.units() == 1);
  CHECK(layout.parameters() == 1);
}

TEST_CASE("an overflow of a layout's total size is refused") {
  Layout layout;
  layout.add_unit("a");
  layout.add_tensor("w", {index_t{1} << 54});
  CHECK_THROWS_WITH_AS(static_cast<void>(layout.add_tensor("v", {index_t{1} << 54})),
                       doctest::Contains("more than 2^55 elements at 'v'"), LayoutError);
}

TEST_CASE("a tie connects a later unit with the earlier unit that owns the tensors") {
  Layout layout;
  const Unit embedding = layout.add_unit("embedding");
  layout.add_tensor("w", {8});
  const Unit head = layout.add_unit("head");
  layout.tie(head, embedding);
  CHECK(layout.tied(head, embedding));
  CHECK_FALSE(layout.tied(embedding, head));
  CHECK(layout.tied_units() == 1);
  CHECK_THROWS_WITH_AS(static_cast<void>(layout.tie(embedding, head)),
                       doctest::Contains("'embedding' cannot be tied to 'head'"), LayoutError);
}

TEST_CASE("all users and owners of a unit are visited, each once, however many units are tied to it") {
  Layout layout;
  for (int u = 0; u < 5; ++u) layout.add_unit("u" + std::to_string(u));
  for (const auto& [user, owner] : {std::pair(3, 0), std::pair(4, 0), std::pair(4, 2), std::pair(1, 0)})
    layout.tie(Unit{user}, Unit{owner});
  CHECK(layout.tied_units() == 2);
  for (const Unit owner : layout.forward()) {
    std::string users, expected;
    layout.for_each_user(owner, [&](Unit user) { users.insert(0, std::to_string(user.index)); });
    for (const int user : {3, 4, 1})
      if (layout.tied(Unit{user}, owner)) expected += std::to_string(user);
    CHECK(users == expected);
  }
  for (const Unit user : layout.forward()) {
    std::string owners, expected;
    layout.for_each_owner(user, [&](Unit owner) { owners.insert(0, std::to_string(owner.index)); });
    for (const int owner : {0, 2})
      if (layout.tied(user, Unit{owner})) expected += std::to_string(owner);
    CHECK(owners == expected);
  }
  CHECK_FALSE(layout.tied(Unit{3}, Unit{2}));
  CHECK_FALSE(layout.tied(Unit{-1}, Unit{0}));
}

TEST_CASE("a tie that is added twice counts once") {
  Layout once;
  once.add_unit("a");
  once.add_unit("b");
  once.tie(Unit{1}, Unit{0});
  Layout twice = once;
  twice.tie(Unit{1}, Unit{0});
  CHECK(twice.digest() == once.digest());
  int users = 0;
  twice.for_each_user(Unit{0}, [&](Unit) { ++users; });
  CHECK(users == 1);
  CHECK(twice.tied_units() == 1);
  CHECK(twice.tied_to(Unit{0}));
  CHECK_FALSE(twice.tied_to(Unit{1}));
}

TEST_CASE("digests differ if names, shapes, groups or ties differ") {
  const auto digest = [](auto change) {
    Layout layout;
    const Unit a = layout.add_unit("a");
    layout.add_tensor("w", {4, 2});
    const Unit b = layout.add_unit("b");
    change(layout, a, b);
    return layout.digest();
  };
  const auto plain = digest([](Layout& l, Unit, Unit) { l.add_tensor("w", {4}); });
  CHECK(plain == digest([](Layout& l, Unit, Unit) { l.add_tensor("w", {4}); }));
  CHECK(plain != digest([](Layout& l, Unit, Unit) { l.add_tensor("v", {4}); }));
  CHECK(plain != digest([](Layout& l, Unit, Unit) { l.add_tensor("w", {2, 2}); }));
  CHECK(plain != digest([](Layout& l, Unit, Unit) { l.add_tensor("w", {4}, {.group = 1}); }));
  CHECK(plain != digest([](Layout& l, Unit, Unit) { l.add_tensor("w", {4}, {.frozen = true}); }));
  CHECK(plain != digest([](Layout& l, Unit a, Unit b) {
          l.add_tensor("w", {4});
          l.tie(b, a);
        }));
}

}  // namespace
}  // namespace tessera
