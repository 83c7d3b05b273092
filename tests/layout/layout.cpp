#include <doctest/doctest.h>

#include <string>

#include <tessera/layout/layout.hpp>

namespace tessera {
namespace {


TEST_CASE("tensors lie back to back in a unit and a unit starts at a multiple of 64 elements") {
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

TEST_CASE("frozen tensors lie behind all trainable ones in the parameter buffer") {
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

TEST_CASE("a layout is a constant expression") {
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

TEST_CASE("what cannot be laid out is refused by name") {
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

TEST_CASE("the total of a layout cannot overflow") {
  Layout layout;
  layout.add_unit("a");
  layout.add_tensor("w", {index_t{1} << 54});
  CHECK_THROWS_WITH_AS(static_cast<void>(layout.add_tensor("v", {index_t{1} << 54})),
                       doctest::Contains("more than 2^55 elements at 'v'"), LayoutError);
}

TEST_CASE("a tie runs from a later unit to the one that owns the tensors") {
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

TEST_CASE("digests differ where names, shapes, groups or ties do") {
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
