"""Tests the libtorch example from the command line. usage: libtorch_command_line.py PROGRAM"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

program = sys.argv[1]
folder = Path(tempfile.mkdtemp())


def check(good, what):
    if not good:
        sys.exit(f"FAILED: {what}")


def run(*arguments):
    return subprocess.run([program, *map(str, arguments)], capture_output=True, text=True, timeout=120)


def report(*arguments):
    path = folder / "report.json"
    done = run(*arguments, "--report", path)
    check(done.returncode == 0, f"{arguments}: {done.stderr}")
    return json.loads(path.read_text())


# The same fingerprint for all stages and numbers of ranks over the same micro-batches. (A program with libtorch takes
# half a second to start, so there are few runs.)
prints = set()
for ranks, passes, stage in (1, 4, 0), (2, 2, 1), (2, 2, 2), (4, 1, 3):
    found = report("--ranks", ranks, "--micro-batches", passes, "--stage", stage, "--steps", 12)
    check(found["example"] == "libtorch" and found["parameters"] == 101770, f"report: {found}")
    check(found["bytes_planned"] == found["bytes_counted"] and len(found["bytes_planned"]) == ranks,
          f"bytes of {ranks} ranks at stage {stage}: {found['bytes_planned']} {found['bytes_counted']}")
    prints.add(found["parameters_fingerprint"])
check(len(prints) == 1, f"fingerprints: {prints}")

found = report("--epochs", 1)
check(found["accuracy"] > 0.85 and found["losses"][0] > 2, f"it learns: {found['accuracy']}")

done = run("--lr", 1e30, "--steps", 6, "--report", folder / "diverged.json")
check(done.returncode == 1 and done.stderr.count("\n") == 1 and "the training diverged, first at step" in done.stderr,
      f"diverges: {done}")
check(json.loads((folder / "diverged.json").read_text())["diverged"], "the report says so")

for arguments, says in {("--precision", "bf16"): "fp32 alone", ("--batch", 20000): "9000"}.items():
    done = run(*arguments)
    check(done.returncode == 2, f"{arguments}: status {done.returncode}")
    check(done.stderr.count("\n") == 1 and says in done.stderr, f"{arguments}: {done.stderr!r}")
