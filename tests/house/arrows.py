"""Enforces the house rules of docs/design.md, section 6, on the headers of a source tree.

usage: arrows.py ROOT

Prints each breach as file:line: what, and exits with 1 if there is any.
"""

import re
import sys
from pathlib import Path

LONGEST = 300  # lines of a header
BROTHERS = ("layout", "rule", "precision", "stage", "exec")
BELOW_COMM = {"core", "timeline", *BROTHERS}

# What a room may look at, besides itself. A file that lies in no room (sharded.hpp, the front doors) is a room.
MAY_SEE = {
    "core": set(),
    "timeline": {"core", "exec"},
    **{brother: {"core"} for brother in BROTHERS},
    "comm": BELOW_COMM,
    "engine": BELOW_COMM | {"comm"},
    "sharded.hpp": BELOW_COMM | {"comm", "engine"},
    "checkpoint": BELOW_COMM | {"comm", "engine", "sharded.hpp"},
    "cuda": {"core", "exec", "comm"},
}
EVERY_ROOM = set(MAY_SEE) - {"cuda"}
MAY_SEE["tessera.hpp"] = EVERY_ROOM
MAY_SEE["mpi.hpp"] = EVERY_ROOM | {"tessera.hpp"}
MAY_SEE["cuda.cuh"] = EVERY_ROOM | {"tessera.hpp", "cuda"}
FRONT_DOORS = {"tessera.hpp", "mpi.hpp", "cuda.cuh"}
NEEDS_MPI = {"mpi.hpp", "comm/mpi.hpp", "comm/rendezvous_mpi.hpp", "cuda/nccl_mpi.cuh"}

INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]')
TOOLKIT_HEADER = re.compile(r"^(cuda|cublas|curand|cub/|thrust/|nccl|nvtx|nvToolsExt|hip/)")
TOOLKIT_MACRO = re.compile(r"\b(__CUDACC\w*|__CUDA_ARCH\w*|__NVCC\w*|__CUDABE\w*|__HIP\w*)")
UNFINISHED = re.compile(r"\b(TODO|FIXME|XXX)\b")


def without_comments(text):
    """The text with every comment blanked; its lines keep their numbers."""
    token = re.compile(r'//[^\n]*|/\*.*?\*/|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])+\'', re.DOTALL)

    def blank(match):
        found = match.group()
        return "\n" * found.count("\n") if found.startswith("/") else found

    return token.sub(blank, text)


def room_of(name):
    return name.split("/")[0]


class House:
    """The headers below ROOT/include/tessera, by their name below it, and the breaches found."""

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
        return self.breaches

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
        """Depth first: an edge to a header that is still open closes a circle."""
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
    print(f"{len(house.headers)} headers, {len(breaches)} breaches")
    return 1 if breaches else 0


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    sys.exit(main(sys.argv[1]))
