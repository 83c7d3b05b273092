"""Measures the compile time of the library, compared with two widely known headers and an earlier version of it.

usage: include_cost.py OUTPUT.md [--compiler g++] [--runs 15] [--before INCLUDE_FOLDER]

Compiles small files (-c -std=c++20 -O0): an include, and an include with a first Sharded. Runs are interleaved, so that
load on the machine affects all alike. Writes medians, least and most as a table. Exits with 1 if including the library
is not faster than <nlohmann/json.hpp>.
"""

import argparse
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
OURS = "`<tessera/tessera.hpp>`"
BAR = "`<nlohmann/json.hpp>`"  # the limit: users accept this header
INCLUDE = "#include <tessera/tessera.hpp>\n"
FIRST = INCLUDE + "template class tessera::Sharded<tessera::AdamW, tessera::Stage3, tessera::Bf16>;\n"


def sources(before):
    """(row of the table, text of the file, folder of the library's headers)"""
    now = ROOT / "include"
    rows = [(OURS, INCLUDE, now), ("`<regex>`", "#include <regex>\n", now),
            (BAR, "#include <nlohmann/json.hpp>\n", now), ("a first `Sharded<AdamW, Stage3, Bf16>`", FIRST, now)]
    if before:
        rows += [(OURS + ", before", INCLUDE, before), ("a first `Sharded`, before", FIRST, before)]
    return rows


def seconds(compiler, source, include):
    began = time.perf_counter()
    subprocess.run([compiler, "-std=c++20", "-O0", "-c", f"-I{include}", source, "-o", "/dev/null"], check=True)
    return time.perf_counter() - began


def measure(compiler, runs, rows):
    """Milliseconds of each run, by row. The order alternates between rounds, and the first round is not counted."""
    times = {row: [] for row, _, _ in rows}
    with tempfile.TemporaryDirectory() as folder:
        for number, (_, text, _) in enumerate(rows):
            (Path(folder) / f"{number}.cpp").write_text(text, encoding="utf-8")
        for run in range(-1, runs):
            for number in range(len(rows)) if run % 2 == 0 else reversed(range(len(rows))):
                row, _, include = rows[number]
                took = 1e3 * seconds(compiler, Path(folder) / f"{number}.cpp", include)
                if run >= 0:
                    times[row].append(took)
    return times


def processor():
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor()


def table(compiler, times):
    version = subprocess.run([compiler, "--version"], check=True, capture_output=True, text=True).stdout.splitlines()[0]
    runs = len(times[OURS])
    lines = [
        "# What it costs to compile the library",
        "",
        f"Made by `bench/include_cost.py`: {version}, `-std=c++20 -O0 -c`,",
        f"{runs} interleaved runs, {processor()}.",
        "",
        "| compiled | ms, median | least | most |",
        "| --- | ---: | ---: | ---: |",
    ]
    for row, ms in times.items():
        lines.append(f"| {row} | {statistics.median(ms):.0f} | {min(ms):.0f} | {max(ms):.0f} |")
    return "\n".join(lines) + "\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output", type=Path)
    parser.add_argument("--compiler", default="g++")
    parser.add_argument("--runs", type=int, default=15)
    parser.add_argument("--before", type=Path, help="the include folder of an earlier version")
    arguments = parser.parse_args()

    times = measure(arguments.compiler, arguments.runs, sources(arguments.before))
    text = table(arguments.compiler, times)
    arguments.output.write_text(text, encoding="utf-8")
    print(text, end="")
    medians = {row: statistics.median(ms) for row, ms in times.items()}
    return 0 if medians[OURS] < medians[BAR] else 1


if __name__ == "__main__":
    sys.exit(main())
