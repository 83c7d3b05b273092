"""Enforces the rules of docs/design.md, section 6, on the headers of a source tree.

usage: arrows.py ROOT

Prints each breach as file:line: what, and exits with 1 if there is any.
"""

import re
import sys
from pathlib import Path

LONGEST = 300  # lines of a header

# The rooms from which a room may include, besides itself. A file outside the rooms (sharded.hpp, the main headers)
# counts as a room. The two wings, numbers and machine, do not include each other; engine includes both.
NUMBERS = {"layout", "rule", "precision", "stage"}
MACHINE = {"exec", "timeline", "comm", "bootstrap"}
BELOW_ENGINE = {"core"} | NUMBERS | MACHINE
MAY_SEE = {
    "core": set(),
    **{room: {"core"} for room in NUMBERS},
    "stage": {"core", "layout"},
    "exec": {"core"},
    "timeline": {"core", "exec"},
    "comm": {"core", "exec", "timeline"},
    "bootstrap": {"core", "exec"},
    "engine": BELOW_ENGINE - {"bootstrap"},
    "sharded.hpp": BELOW_ENGINE | {"engine"},
    "cuda": {"core"} | MACHINE,
    "model": BELOW_ENGINE | {"engine"},
}
MAY_SEE["checkpoint"] = {"core", "layout", "rule", "precision", "comm", "engine", "sharded.hpp"}
MAY_SEE["checkpoint.hpp"] = {"checkpoint"}
MAY_SEE["tessera.hpp"] = BELOW_ENGINE | {"engine", "sharded.hpp"}
MAY_SEE["cuda.cuh"] = {"tessera.hpp", "cuda"}
FRONT_DOORS = {"tessera.hpp", "cuda.cuh", "checkpoint.hpp"}
NEEDS_MPI = {"bootstrap/mpi.hpp", "cuda/nccl/mpi.cuh"}

# The includes that are allowed between the rooms of engine/, and their maximum number.
ENGINE_ROOMS = {
    "kernels": set(),
    "memory": {"kernels"},
    "step": {"kernels", "memory"},
    "build": {"kernels", "memory", "step"},
}
MOST_BETWEEN_ENGINE_ROOMS = 10

INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]')
TOOLKIT_HEADER = re.compile(r"^(cuda|cublas|curand|cub/|thrust/|nccl|nvtx|nvToolsExt|hip/)")
TOOLKIT_MACRO = re.compile(r"\b(__CUDACC\w*|__CUDA_ARCH\w*|__NVCC\w*|__CUDABE\w*|__HIP\w*)")
UNFINISHED = re.compile(r"\b(TODO|FIXME|XXX)\b")


def without_comments(text):
    """The text with blanks instead of comments; line numbers do not change."""
    token = re.compile(r'//[^\n]*|/\*.*?\*/|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])+\'', re.DOTALL)

    def blank(match):
        found = match.group()
        return "\n" * found.count("\n") if found.startswith("/") else found

    return token.sub(blank, text)


def room_of(name):
    return name.split("/")[0]


def engine_room_of(name):
    """The room within engine/; empty for other headers."""
    parts = name.split("/")
    return parts[1] if parts[0] == "engine" and len(parts) == 3 else ""


class House:
    """The headers below ROOT/include/tessera, by their relative names, and the breaches found."""

    def __init__(self, root):
        self.root = Path(root)
        self.base = self.root / "include" / "tessera"
        found = [path for path in self.base.rglob("*") if path.is_file()]
        self.headers = {path.relative_to(self.base).as_posix(): path.read_text(encoding="utf-8") for path in found}
        self.edges = {name: [] for name in self.headers}  # of (line, included name)
        self.breaches = []

    def breach(self, name, line, what):
        self.breaches.append(f"include/tessera/{name}:{line}: {what}")

    def check(self):
        for name in sorted(self.headers):
            self.check_shape(name)
            self.check_code(name)
        self.check_circles()
        self.check_rooms_are_there()
        self.check_engine()
        return self.breaches

    def check_rooms_are_there(self):
        """MAY_SEE must describe this tree: every room in it must exist."""
        for room in sorted(set(MAY_SEE) - {room_of(name) for name in self.headers}):
            self.breaches.append(f"arrows.py: there is no room '{room}' below {self.base}")

    def between_engine_rooms(self):
        """The includes from one room of engine to another, as (includer, line, included)."""
        return [(name, line, target) for name in sorted(self.edges) for line, target in self.edges[name]
                if engine_room_of(name) and engine_room_of(target) and engine_room_of(name) != engine_room_of(target)]

    def check_engine(self):
        for name in sorted(self.headers):
            if room_of(name) == "engine" and engine_room_of(name) not in ENGINE_ROOMS:
                self.breach(name, 1, f"lies in none of engine's rooms: {', '.join(ENGINE_ROOMS)}")
        between = self.between_engine_rooms()
        for name, line, target in between:
            here, there = engine_room_of(name), engine_room_of(target)
            if there not in ENGINE_ROOMS.get(here, set()):
                self.breach(name, line, f"engine/{here} may not look at engine/{there}")
        if len(between) > MOST_BETWEEN_ENGINE_ROOMS:
            self.breaches.append(f"{len(between)} includes between engine's rooms, {MOST_BETWEEN_ENGINE_ROOMS} at most")

    def check_shape(self, name):
        text = self.headers[name]
        lines = text.splitlines()
        if not name.endswith((".hpp", ".cuh")):
            self.breach(name, 1, "only .hpp and .cuh files live here")
        if room_of(name) not in MAY_SEE:
            self.breach(name, 1, f"'{room_of(name)}' is no room of the house")
        if not text.startswith("//"):
            self.breach(name, 1, "the header does not open by saying what it is")
        if "#pragma once" not in lines:
            self.breach(name, 1, "no #pragma once")
        if len(lines) > LONGEST:
            self.breach(name, len(lines), f"{len(lines)} lines, {LONGEST} at most: it is two ideas")
        for number, line in enumerate(lines, 1):
            if match := UNFINISHED.search(line):
                self.breach(name, number, f"{match.group()} left behind")
        tests = self.root / "tests"
        mirror = Path(name).with_suffix("")
        if name not in FRONT_DOORS and not any((tests / mirror).parent.glob(mirror.name + ".c[pu]*")):
            suffix = "cu" if name.endswith(".cuh") else "cpp"
            self.breach(name, 1, f"no test mirrors it: tests/{mirror}.{suffix}")

    def check_code(self, name):
        for number, line in enumerate(without_comments(self.headers[name]).splitlines(), 1):
            if match := INCLUDE.match(line):
                self.check_include(name, number, *match.groups())
            elif name != "core/config.hpp" and (match := TOOLKIT_MACRO.search(line)):
                self.breach(name, number, f"{match.group()}: macros of a toolkit appear in core/config.hpp alone")

    def check_include(self, name, line, bracket, target):
        if bracket == '"':
            self.breach(name, line, f'"{target}": headers are included as <tessera/...>')
        elif target.startswith("tessera/"):
            self.check_arrow(name, line, target.removeprefix("tessera/"))
        elif target == "mpi.h":
            if name not in NEEDS_MPI:
                self.breach(name, line, "<mpi.h>: only what is named after MPI needs it")
        elif TOOLKIT_HEADER.match(target) and not name.endswith(".cuh"):
            self.breach(name, line, f"<{target}>: a .hpp needs no toolkit")

    def check_arrow(self, name, line, target):
        if target not in self.headers:
            self.breach(name, line, f"<tessera/{target}> does not exist")
            return
        self.edges[name].append((line, target))
        here, there = room_of(name), room_of(target)
        if here != there and there not in MAY_SEE.get(here, set()):
            self.breach(name, line, f"{here} may not look at {there}")
        if target.endswith(".cuh") and name.endswith(".hpp"):
            self.breach(name, line, f"<tessera/{target}>: a .hpp needs no .cuh")
        if target in NEEDS_MPI and name not in NEEDS_MPI:
            self.breach(name, line, f"<tessera/{target}>: only what is named after MPI needs it")

    def check_circles(self):
        """Depth-first search: an edge to a header on the current path closes a circle."""
        done, path = set(), []

        def visit(name):
            path.append(name)
            for line, target in self.edges[name]:
                if target in path:
                    circle = path[path.index(target):] + [target]
                    self.breach(name, line, "a circle: " + " -> ".join(circle))
                elif target not in done:
                    visit(target)
            done.add(path.pop())

        for name in sorted(self.headers):
            if name not in done:
                visit(name)


def main(root):
    house = House(root)
    if not house.headers:
        print(f"no headers below {house.base}")
        return 1
    breaches = house.check()
    for what in breaches:
        print(what)
    between = house.between_engine_rooms()
    for name, _, target in between:
        print(f"between engine's rooms: {name} -> {target}")
    print(f"{len(house.headers)} headers, {len(between)} includes between engine's rooms, {len(breaches)} breaches")
    return 1 if breaches else 0


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    sys.exit(main(sys.argv[1]))
