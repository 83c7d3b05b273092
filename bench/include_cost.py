"""Measures the compile time of including the library, compared with two widely known headers.

usage: include_cost.py OUTPUT.md [--compiler g++] [--runs 15]

Compiles one-line files (-fsyntax-only -std=c++20 -O0), interleaved so that load on the machine affects all alike, and
writes the medians as a table. Exits with 1 if the library is not faster than <nlohmann/json.hpp>.
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
OURS = "<tessera/tessera.hpp>"
BAR = "<nlohmann/json.hpp>"  # the limit: users accept this header
HEADERS = [OURS, "<regex>", BAR]


def seconds(compiler, source):
    began = time.perf_counter()
    subprocess.run([compiler, "-std=c++20", "-O0", "-fsyntax-only", f"-I{ROOT / 'include'}", source], check=True)
    return time.perf_counter() - began


def measure(compiler, runs):
    """Milliseconds of each run, by header. The order alternates between rounds, and the first round is not counted."""
    times = {header: [] for header in HEADERS}
    with tempfile.TemporaryDirectory() as folder:
        sources = {header: Path(folder) / f"{number}.cpp" for number, header in enumerate(HEADERS)}
        for header, source in sources.items():
            source.write_text(f"#include {header}\n", encoding="utf-8")
            seconds(compiler, source)
        for run in range(runs):
            for header in HEADERS if run % 2 == 0 else reversed(HEADERS):
                times[header].append(1e3 * seconds(compiler, sources[header]))
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
        "# What it costs to include the library",
        "",
        f"Made by `bench/include_cost.py`: {version}, `-std=c++20 -O0 -fsyntax-only`, median of {runs} interleaved runs,",
        f"{processor()}.",
        "",
        "| header | ms, median | least | most |",
        "| --- | ---: | ---: | ---: |",
    ]
    for header, ms in times.items():
        lines.append(f"| `{header}` | {statistics.median(ms):.0f} | {min(ms):.0f} | {max(ms):.0f} |")
    return "\n".join(lines) + "\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output", type=Path)
    parser.add_argument("--compiler", default="g++")
    parser.add_argument("--runs", type=int, default=15)
    arguments = parser.parse_args()

    times = measure(arguments.compiler, arguments.runs)
    text = table(arguments.compiler, times)
    arguments.output.write_text(text, encoding="utf-8")
    print(text, end="")
    medians = {header: statistics.median(ms) for header, ms in times.items()}
    return 0 if medians[OURS] < medians[BAR] else 1


if __name__ == "__main__":
    sys.exit(main())
