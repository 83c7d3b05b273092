"""Tests that mutants.py refuses a list that does not fit the sources, and tells what a test's output says."""

import sys
import tempfile
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tools/mutants"))
import mutants  # noqa: E402

ENTRY = """
[[fault]]
name = "the last element is left out"
file = "core/math.hpp"
old = 'i < n'
new = 'i < n - 1'
tests = ["core/math.cpp"]
"""
FAILED = """[doctest] doctest version is "2.4.9"
===============================================================================
/tests/a.cpp:3:
TEST CASE:  every element is added

/tests/a.cpp:5: ERROR: CHECK( sum == 3 ) is NOT correct!
===============================================================================
/tests/a.cpp:9:
TEST CASE:  another

/tests/a.cpp:11: FATAL ERROR: REQUIRE( false ) is NOT correct!
[doctest] test cases:  3 |  1 passed | 2 failed | 0 skipped
"""
CRASHED = """TEST CASE:  every element is added

/tests/a.cpp:5: FATAL ERROR: test case CRASHED: SIGSEGV - Segmentation violation signal
[doctest] test cases:  1 |  0 passed | 1 failed | 2 skipped
"""


class List(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.root = Path(folder.name)
        self.write("include/tessera/core/math.hpp", "for (i = 0; i\n    < n; ++i) sum += i;\n")
        self.write("tests/core/math.cpp", "")

    def write(self, name, text):
        (self.root / name).parent.mkdir(parents=True, exist_ok=True)
        (self.root / name).write_text(text)

    def misfits(self, entry=ENTRY):
        return mutants.misfits(self.root, mutants.read_list(entry))

    def test_a_text_that_occurs_once_fits_whatever_its_white_space(self):
        self.assertEqual(self.misfits(), [])
        [fault] = mutants.read_list(ENTRY)
        text = (self.root / "include/tessera/core/math.hpp").read_text()
        self.assertEqual(mutants.with_fault(text, fault), "for (i = 0; i < n - 1; ++i) sum += i;\n")

    def test_a_text_that_does_not_occur_is_refused(self):
        self.write("include/tessera/core/math.hpp", "for (i = 0; i != n; ++i) sum += i;\n")
        self.assertIn("0 times", self.misfits()[0])

    def test_a_text_that_occurs_twice_is_refused(self):
        self.write("include/tessera/core/math.hpp", "i < n; i < n")
        self.assertIn("2 times", self.misfits()[0])

    def test_a_missing_header_or_test_is_named(self):
        self.assertIn("core/other.hpp", self.misfits(ENTRY.replace("math.hpp", "other.hpp"))[0])
        self.assertIn("core/other.cpp", self.misfits(ENTRY.replace("math.cpp", "other.cpp"))[0])

    def test_an_entry_with_a_missing_or_unknown_field_is_refused(self):
        for wrong in (ENTRY.replace("old = 'i < n'", ""), ENTRY.replace('["core/math.cpp"]', "[]"),
                      ENTRY + "line = 3\n", ENTRY.replace("i < n - 1", "i  < n"), ENTRY + ENTRY):
            with self.assertRaises(mutants.ListError):
                mutants.read_list(wrong)


class Output(unittest.TestCase):
    def outcome(self, output, status):
        outcome = mutants.outcome_of("a.cpp", output, status)
        return outcome.kind, outcome.where

    def test_the_first_failed_test_case_catches(self):
        self.assertEqual(self.outcome(FAILED, 1), ("failed", "every element is added"))
        self.assertEqual(self.outcome(FAILED, None), ("failed", "every element is added"))

    def test_a_crash_names_its_test_case(self):
        self.assertEqual(self.outcome(CRASHED, 1), ("crash", "every element is added"))
        self.assertEqual(self.outcome("", -11), ("crash", ""))

    def test_a_test_that_is_stopped_is_a_timeout(self):
        self.assertEqual(self.outcome("", None), ("timeout", ""))

    def test_only_a_run_with_test_cases_passes(self):
        self.assertEqual(self.outcome("[doctest] test cases:  3 |  3 passed | 0 failed", 0), ("passed", ""))
        self.assertEqual(self.outcome("[doctest] test cases:  0 |  0 passed | 0 failed", 0)[0], "crash")


class Table(unittest.TestCase):
    def test_survivors_are_counted_and_their_reason_is_printed(self):
        explained = ENTRY.replace("left out", "a|b").replace("[[fault]]", '[[fault]]\nwhy = "equal"')
        faults = mutants.read_list(ENTRY + explained)
        outcomes = {faults[0]: mutants.Outcome("failed", "case", "core/math.cpp"), faults[1]: mutants.Outcome("passed")}
        text = mutants.markdown(faults, outcomes, ["about"])
        self.assertIn("| core | 2 | 1 | 1 | 0 |", text)
        self.assertIn("| the last element is left out | core/math.hpp | core/math.cpp | “case” |", text)
        self.assertIn("| the last element is a\\|b | core/math.hpp | core/math.cpp | **survives**: equal |", text)


if __name__ == "__main__":
    unittest.main()
