"""Tests that public_names.py finds the names that headers declare, and every kind of error in the reference."""

import contextlib
import io
import tempfile
import unittest
from pathlib import Path

import public_names

HEADER = '''// What it is.
#pragma once
#include <span>
namespace tessera {
/// A class.
template <class T, int n = (3 > 2)>
class Box : public Base<T> {
 public:
  void hidden(int i = 0) { if (i) return; }
};
enum class Colour { red, green };
template <class T>
concept Small = sizeof(T) < 8 && requires(T t) { t.size(); };
using Alias = Box<int>;
inline constexpr int limit = 7;
TESSERA_HD constexpr double half(double x = {}) noexcept { return x / 2; }
template <class T>
  requires Small<T>
auto twice(const T& x) -> decltype(x + x);
template <>
class Box<int> {};
bool operator==(Alias, Alias);
static_assert(limit == 7, "names { in text }");
namespace room {
class Internal {};
}
}  // namespace tessera
namespace tessera::room {
struct AlsoInternal {};
}
'''
NAMES = ["Alias", "Box", "Colour", "Small", "half", "limit", "twice"]


class PublicNames(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)
        self.root = Path(self.folder.name)
        self.write("include/tessera/core/box.hpp", HEADER)
        self.rows(NAMES)

    def write(self, name, text):
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")

    def rows(self, names, header="tessera/core/box.hpp"):
        self.write("docs/reference.md", "".join(f"| `{name}` | `<{header}>` | what it is |\n" for name in names))

    def check(self):
        output = io.StringIO()
        with contextlib.redirect_stdout(output):
            status = public_names.main(self.root, False)
        return status, output.getvalue()

    def test_what_namespace_tessera_declares_is_found_and_nothing_else(self):
        self.assertEqual(sorted(public_names.public_names(self.root)), NAMES)

    def test_a_complete_reference_has_no_breach(self):
        self.assertEqual(self.check()[0], 0)

    def test_a_name_without_a_row_is_named(self):
        self.rows(NAMES[1:])
        self.assertEqual(self.check()[0], 1)
        self.assertIn("`Alias` of <tessera/core/box.hpp> is missing", self.check()[1])

    def test_a_row_without_a_name_is_named(self):
        self.rows([*NAMES, "Internal"])
        self.assertIn("no header declares `Internal`", self.check()[1])

    def test_a_row_with_another_header_is_named(self):
        self.rows(NAMES, "tessera/core/other.hpp")
        self.assertIn("`Box` is declared in <tessera/core/box.hpp>", self.check()[1])

    def test_a_row_that_stands_twice_is_named(self):
        self.rows([*NAMES, "Box"])
        self.assertIn("`Box` stands twice", self.check()[1])

    def test_a_row_without_text_counts_for_nothing(self):
        self.write("docs/reference.md", "".join(f"| `{name}` | `<tessera/core/box.hpp>` |  |\n" for name in NAMES))
        self.assertEqual(self.check()[0], 1)


if __name__ == "__main__":
    unittest.main()
