"""Compares two builds of bench/any_world.cpp over numbers of ranks, and prints a page.

usage: any_world.py BEFORE NOW [--runs 11] [--elements 16777216]

Runs the two alternately. Each run takes the median of its steps; the table has the least and the median of the runs.
"""

import argparse
import statistics
import subprocess

parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
parser.add_argument("before")
parser.add_argument("now")
parser.add_argument("--runs", type=int, default=11)
parser.add_argument("--steps", type=int, default=5)
parser.add_argument("--elements", type=int, default=1 << 22)
chosen = parser.parse_args()


def run(program, ranks, passes):
    output = subprocess.run([program, str(ranks), str(passes), str(chosen.steps), str(chosen.elements)], check=True,
                            capture_output=True, text=True).stdout
    return statistics.median(map(float, output.split()))


print("# A step on any number of ranks, before and now\n")
print(f"`python3 bench/any_world.py BEFORE NOW --runs {chosen.runs} --steps {chosen.steps} --elements "
      f"{chosen.elements}`: `Sharded<AdamW, Stage2, Fp32>`, ranks are threads, {chosen.elements} parameters, no compute. "
      "Milliseconds of a whole step, of runs that alternate. Spread: (median - least) / least of the runs before.\n")
print("| ranks | passes | before: least | median | now: least | median | now / before, least | spread |")
print("| --- | --- | --- | --- | --- | --- | --- | --- |")
for passes in (1, 4):
    for ranks in (1, 2, 3, 4, 5, 7, 8):
        times = {"before": [], "now": []}
        for _ in range(chosen.runs):
            for name in times:
                try:
                    times[name].append(1e3 * run(getattr(chosen, name), ranks, passes))
                except subprocess.CalledProcessError:  # an earlier version may refuse the number of ranks
                    pass
        cells = []
        for name in times:
            cells += [f"{min(times[name]):.1f}", f"{statistics.median(times[name]):.1f}"] if times[name] else ["refused"] * 2
        ratio = spread = ""
        if times["before"]:
            ratio = f"{min(times['now']) / min(times['before']):.3f}"
            spread = f"{statistics.median(times['before']) / min(times['before']) - 1:.3f}"
        print(f"| {ranks} | {passes} | {' | '.join(cells)} | {ratio} | {spread} |", flush=True)
