#!/usr/bin/env python3
"""Applies small faults to a copy of the sources, one at a time, and reports which tests catch them.

usage: tools/mutants/mutants.py [--only PATTERN] [--jobs N] [--output FILE]
       tools/mutants/mutants.py --check | --list

A fault that no test catches shows a behaviour that nothing tests. faults.toml lists the faults. Each has

    name    a sentence: what goes wrong
    file    a header below include/tessera
    old     a text that occurs exactly once in the file; white space between words may differ
    new     the text that replaces it
    tests   sources below tests/, run in this order until one catches the fault
    flags   only if needed: more flags of the compiler, such as a sanitizer
    why     only if the fault cannot be caught: the reason, which the table prints

First every test must pass without a fault. Then each fault is applied to a copy in a temporary folder, and its tests
are compiled with g++ -O0 (CXX sets another compiler) and run. A test that is compiled for CUDA (*.cu) uses the emulated
runtime of tests/emulation and needs no device. These outcomes count as caught: a failed check, a crash, a timeout, an
error of a sanitizer, and a static_assert of the test. A fault that does not compile for another reason is an error in
the list.

A full run takes about an hour on one core. It is not part of CI, which runs only --check: that every fault still
fits the sources. The result of the last full run is bench/results/mutants.md:

    tools/mutants/mutants.py --jobs 2 --output bench/results/mutants.md

The exit status is 0 if every fault is caught or has a `why`.
"""

import argparse
import concurrent.futures
import dataclasses
import datetime
import os
import platform
import queue
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FAULTS = Path(__file__).resolve().parent / "faults.toml"
COPIED = ("include", "tests", "docs", "README.md")  # tests compare code in pages with what they compile


class ListError(Exception):
    """The list of faults does not fit the sources."""


@dataclasses.dataclass(frozen=True)
class Fault:
    name: str
    file: str
    old: str
    new: str
    tests: tuple
    flags: tuple = ()
    why: str = ""

    @property
    def area(self):
        return self.file.split("/")[0] if "/" in self.file else "sharded"


def read_list(text):
    """The faults of a list. Raises ListError if a field is missing, unknown or of another type."""
    faults, names = [], set()
    for number, entry in enumerate(tomllib.loads(text).get("fault", []), 1):
        name = entry.get("name", f"fault {number}")
        if unknown := set(entry) - {field.name for field in dataclasses.fields(Fault)}:
            raise ListError(f"{name}: unknown field {sorted(unknown)[0]}")
        for field in ("name", "file", "old", "new", "tests"):
            if not entry.get(field) and field != "new" or field not in entry:
                raise ListError(f"{name}: no {field}")
        if (entry["file"], name) in names:
            raise ListError(f"{name}: two faults of {entry['file']} have this name")
        if entry["old"].split() == entry["new"].split():
            raise ListError(f"{name}: changes nothing")
        names.add((entry["file"], name))
        faults.append(Fault(**{field: tuple(value) if isinstance(value, list) else value
                               for field, value in entry.items()}))
    return faults


def with_fault(text, fault):
    """The text of the fault's file with the fault. Raises ListError unless `old` occurs exactly once."""
    places = list(re.finditer(r"\s+".join(map(re.escape, fault.old.split())), text))
    if len(places) != 1:
        raise ListError(f"{fault.name}: {fault.file} has {len(places)} times instead of once: {fault.old.strip()}")
    return text[:places[0].start()] + fault.new.strip() + text[places[0].end():]


def misfits(root, faults):
    """What does not fit: one line per fault."""
    lines = []
    for fault in faults:
        file = root / "include/tessera" / fault.file
        missing = [test for test in fault.tests if not (root / "tests" / test).is_file()]
        if not file.is_file():
            lines.append(f"{fault.name}: there is no include/tessera/{fault.file}")
            continue
        if missing:
            lines.append(f"{fault.name}: there is no tests/{missing[0]}")
        try:
            with_fault(file.read_text(encoding="utf-8"), fault)
        except ListError as error:
            lines.append(str(error))
    return lines


@dataclasses.dataclass(frozen=True)
class Outcome:
    kind: str  # "passed", "failed", "crash", "timeout", "sanitizer" or "static_assert"
    where: str = ""  # the test case
    test: str = ""
    seconds: float = 0

    def text(self):
        where = f" in “{self.where}”" if self.where else ""
        return {"passed": "survived", "failed": f"“{self.where}”"}.get(self.kind, f"{self.kind}{where}")


def outcome_of(test, output, status, seconds=0):
    """What doctest's output says. status: the exit status, negative for a signal; None: stopped by the time limit."""
    case, failed, crashed = "", "", ""
    for line in output.splitlines():
        if line.startswith("TEST CASE: "):
            case = line[len("TEST CASE: "):].strip()
        elif "FATAL ERROR: test case CRASHED" in line or "terminate called" in line:
            crashed = crashed or case or "?"
        elif " ERROR: " in line:
            failed = failed or case
    if failed and status is not None and status > 0 and not crashed:
        return Outcome("failed", failed, test, seconds)
    if status is None:
        return Outcome("failed", failed, test, seconds) if failed else Outcome("timeout", "", test, seconds)
    if status != 0:
        kind = "sanitizer" if "runtime error: " in output else "crash"
        return Outcome(kind, (failed or crashed).strip("?"), test, seconds)
    ran = re.search(r"test cases: +(\d+)", output)
    if not ran or ran[1] == "0":
        return Outcome("crash", "no test case ran", test, seconds)
    return Outcome("passed", "", test, seconds)


def first_error(output):
    return next((line for line in output.splitlines() if " error: " in line), output.strip()[-300:])


class Workshop:
    """A copy of the sources, and for each job a copy of the headers to which faults are applied."""

    def __init__(self, folder, root, compiler):
        self.folder, self.compiler = Path(folder), compiler
        self.sound = self.folder / "sound"
        self.sound.mkdir()
        for name in COPIED:
            if (root / name).is_dir():
                shutil.copytree(root / name, self.sound / name)
            elif (root / name).is_file():
                shutil.copy(root / name, self.sound / name)
        self.environment = os.environ | {"CCACHE_DISABLE": "1", "LC_ALL": "C.UTF-8"}
        self.mains = {}

    def compile_mains(self):
        for kind, source in (("", "main.cpp"), ("cuda", "cuda/main.cu")):
            self.mains[kind] = self.folder / f"main{kind}.o"
            self._run([*self._flags(self.sound / "include", bool(kind)), "-c", self.sound / "tests" / source, "-o",
                       self.mains[kind]], check=True)

    def headers(self, job):
        """The headers of a job, to which one fault at a time is applied."""
        copy = self.folder / f"job{job}" / "include"
        if not copy.exists():
            shutil.copytree(self.sound / "include", copy)
        return copy

    def try_test(self, test, headers, limit, flags=()):
        """The outcome of one test with these headers. Raises ListError if it does not compile."""
        cuda = test.endswith(".cu")
        program = headers.parent / "program"
        built = self._run([*self._flags(headers, cuda), *flags, self.sound / "tests" / test, "-x", "none",
                           self.mains["cuda" if cuda else ""], "-o", program])
        if built.returncode != 0:
            error = first_error(built.stdout)
            if f"{self.sound}/tests/" in error.split(" error: ")[0] and "static assertion" in error:
                return Outcome("static_assert", "", test)
            raise ListError(f"tests/{test} does not compile: {error.replace(str(self.folder) + '/', '')}")
        with open(headers.parent / "output", "wb+") as output:
            began = time.monotonic()
            process = subprocess.Popen([program, "--no-colors=true"], stdout=output, stderr=subprocess.STDOUT,
                                       cwd=headers.parent, start_new_session=True, env=self.environment)
            try:
                status = process.wait(limit)
            except subprocess.TimeoutExpired:
                status = None
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
            seconds = time.monotonic() - began
            output.seek(0)
            return outcome_of(test, output.read(1 << 22).decode(errors="replace"), status, seconds)

    def _flags(self, headers, cuda):
        tests = self.sound / "tests"
        flags = [self.compiler, "-std=c++20", "-O0", "-w", "-pthread", f'-DTESSERA_SOURCE_DIR="{self.sound}"']
        if cuda:
            flags += ["-I", tests / "emulation"]
        flags += ["-I", headers, "-I", tests]
        return flags + ["-I", tests / "cuda", "-x", "c++"] if cuda else flags

    def _run(self, command, check=False):
        done = subprocess.run(list(map(str, command)), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                              errors="replace", env=self.environment, check=False)
        if check and done.returncode != 0:
            raise ListError(f"{command[-3]} does not compile: {first_error(done.stdout)}")
        return done


class Progress:
    """One line that is overwritten on a terminal; else one line per fault."""

    def __init__(self, stream=sys.stderr):
        self.stream, self.live = stream, stream.isatty()

    def show(self, text):
        if self.live:
            width = shutil.get_terminal_size().columns - 1
            self.stream.write("\r\033[K" + (text if len(text) <= width else text[:width - 3] + "..."))
        else:
            self.stream.write(text + "\n")
        self.stream.flush()

    def line(self, text):
        """A line that stays."""
        self.stream.write(("\r\033[K" if self.live else "") + text + "\n")
        self.stream.flush()

    def end(self):
        if self.live:
            self.stream.write("\r\033[K")


def each_with(workshop, jobs, items, work, done):
    """Calls done(item, result, count) for the result of work(item, headers) of each item, as they finish."""
    free = queue.Queue()
    for job in range(jobs):
        free.put(job)

    def with_headers(item):
        job = free.get()
        try:
            return work(item, workshop.headers(job))
        finally:
            free.put(job)

    with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
        running = {pool.submit(with_headers, item): item for item in items}
        try:
            for count, future in enumerate(concurrent.futures.as_completed(running), 1):
                done(running[future], future.result(), count)
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def pass_without_fault(workshop, tests, jobs, progress):
    """Time limits by test. Raises ListError if a test fails without a fault."""
    limits = {}

    def work(test, headers):
        return workshop.try_test(test, headers, limit=300)

    def done(test, outcome, count):
        if outcome.kind != "passed":
            raise ListError(f"tests/{test} does not pass without a fault: {outcome.text()}")
        limits[test] = max(20, 10 * outcome.seconds)
        progress.show(f"{count}/{len(tests)} without a fault: {test}")

    each_with(workshop, jobs, tests, work, done)
    return limits


def run_faults(workshop, faults, jobs, limits, progress):
    """The outcome by fault; a ListError for a fault that does not compile."""
    outcomes = {}

    def work(fault, headers):
        file = headers / "tessera" / fault.file
        sound = (workshop.sound / "include/tessera" / fault.file).read_text(encoding="utf-8")
        outcome = Outcome("passed")
        try:
            file.write_text(with_fault(sound, fault), encoding="utf-8")
            for test in fault.tests:
                outcome = workshop.try_test(test, headers, limits[test], fault.flags)
                if outcome.kind != "passed":
                    break
            return outcome
        except ListError as error:
            return error
        finally:
            file.write_text(sound, encoding="utf-8")

    def done(fault, outcome, count):
        outcomes[fault] = outcome
        text = outcome.text() if isinstance(outcome, Outcome) else str(outcome)
        progress.show(f"{count}/{len(faults)} {fault.name}: {text}")
        if isinstance(outcome, ListError):
            progress.line(f"ERROR in the list: {fault.name}: {outcome}")
        elif outcome.kind == "passed" and not fault.why:
            progress.line(f"SURVIVED: {fault.name} ({fault.file})")
        elif outcome.kind != "passed" and fault.why:
            progress.line(f"ERROR in the list: {fault.name} is caught by {outcome.text()}: remove its `why`")

    each_with(workshop, jobs, faults, work, done)
    return outcomes


def areas_of(faults):
    areas = {}
    for fault in faults:
        areas.setdefault(fault.area, []).append(fault)
    return areas


def count_by(outcomes, faults):
    """(caught, explained, survived)"""
    survivors = [fault for fault in faults if outcomes[fault].kind == "passed"]
    explained = sum(1 for fault in survivors if fault.why)
    return len(faults) - len(survivors), explained, len(survivors) - explained


def markdown(faults, outcomes, about):
    """The table of the results. about: the lines under the title."""
    def cell(text):
        return text.replace("|", "\\|")

    lines = ["# Mutants: small faults, and the tests that catch them", "", *about, "",
             "| area | faults | caught | survive, with a reason | survive |", "| --- | ---: | ---: | ---: | ---: |"]
    for area, some in areas_of(faults).items():
        lines.append("| " + " | ".join(map(str, (area, len(some), *count_by(outcomes, some)))) + " |")
    lines.append("| " + " | ".join(map(str, ("all", len(faults), *count_by(outcomes, faults)))) + " |")
    for area, some in areas_of(faults).items():
        lines += ["", f"## {area}", "", "| fault | header | test | caught by |", "| --- | --- | --- | --- |"]
        for fault in some:
            outcome = outcomes[fault]
            survives = outcome.kind == "passed"
            tests = ", ".join(fault.tests) if survives else outcome.test
            text = f"**survives**{': ' + fault.why if fault.why else ''}" if survives else outcome.text()
            lines.append("| " + " | ".join(map(cell, (fault.name, fault.file, tests, text))) + " |")
    return "\n".join(lines) + "\n"


def commit_of(root):
    done = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=root, capture_output=True, text=True,
                          check=False)
    return done.stdout.strip() or "unknown"


def about_run(faults, outcomes, compiler, jobs, commit, seconds):
    version = subprocess.run([compiler, "--version"], capture_output=True, text=True, check=False).stdout
    version = version.split("\n")[0]
    caught, explained, survived = count_by(outcomes, faults)
    return [
        "Each fault was applied alone to a copy of the headers. The tests named beside it were compiled and run until",
        "one caught it: by a test case (in quotes), a crash, a timeout, a sanitizer, or a static_assert of the test.",
        "`tools/mutants/faults.toml` has the text of each fault.", "",
        f"    tools/mutants/mutants.py --jobs {jobs} --output bench/results/mutants.md", "",
        f"{datetime.date.today()}, {platform.machine()}, {version}, -O0, at commit {commit}, in "
        f"{seconds / 60:.0f} minutes: {len(faults)} faults, {caught} caught,",
        f"{explained} survive for the reason given, {survived} survive."]


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter,
                                     usage=argparse.SUPPRESS)
    parser.add_argument("--check", action="store_true", help="only check that every fault fits the sources")
    parser.add_argument("--list", action="store_true", help="only list the faults")
    parser.add_argument("--only", metavar="PATTERN", default="", help="faults whose name, file or tests match (regex)")
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="faults at a time (default 1)")
    parser.add_argument("--output", type=Path, metavar="FILE", help="write the table of the results, in Markdown")
    options = parser.parse_args(arguments)
    try:
        every = read_list(FAULTS.read_text(encoding="utf-8"))
        faults = [fault for fault in every
                  if re.search(options.only, " ".join((fault.name, fault.file, *fault.tests)))]
        if lines := misfits(ROOT, faults):
            raise ListError("\n".join(lines))
        if options.list:
            for fault in faults:
                print(f"{fault.file}: {fault.name}")
        if options.list or options.check:
            print(", ".join(f"{area} {len(some)}" for area, some in areas_of(faults).items()) +
                  f": {len(faults)} faults fit")
            return 0
        if not faults:
            raise ListError(f"no fault matches {options.only}")
        compiler, began, progress = os.environ.get("CXX", "g++"), time.monotonic(), Progress()
        commit = commit_of(ROOT)  # before the copy: the work may go on meanwhile
        with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
            workshop = Workshop(folder, ROOT, compiler)
            workshop.compile_mains()
            tests = list(dict.fromkeys(test for fault in faults for test in fault.tests))
            limits = pass_without_fault(workshop, tests, options.jobs, progress)
            outcomes = run_faults(workshop, faults, options.jobs, limits, progress)
        progress.end()
    except ListError as error:
        print(f"\nERROR in the list: {error}", file=sys.stderr)
        return 2
    counted = [fault for fault in faults if isinstance(outcomes[fault], Outcome)]
    errors = len(faults) - len(counted)
    stale = sum(1 for fault in counted if fault.why and outcomes[fault].kind != "passed")
    caught, explained, survived = count_by(outcomes, counted)
    if options.output and not errors:
        about = about_run(faults, outcomes, compiler, options.jobs, commit, time.monotonic() - began)
        options.output.write_text(markdown(faults, outcomes, about), encoding="utf-8")
    print(f"{len(counted)} faults: {caught} caught, {explained} survive with a reason, {survived} survive"
          + (f"; {errors + stale} errors in the list" if errors + stale else ""))
    return 2 if errors + stale else 1 if survived else 0


if __name__ == "__main__":
    sys.exit(main())
