"""Tests the mlp example from the command line. usage: mlp_command_line.py PROGRAM"""

import json
import re
import resource
import signal
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as tree
from pathlib import Path

program = sys.argv[1]
svg = Path(__file__).resolve().parents[2] / "tools" / "timeline_svg.py"
folder = Path(tempfile.mkdtemp())
KEYS = ["example", "ranks", "stage", "precision", "optimizer", "parameters", "steps", "losses",
        "final_loss", "accuracy",
        "parameters_fingerprint", "bytes_planned", "bytes_counted", "elements_sent_per_step", "skipped_steps",
        "diverged", "seconds_per_step"]
checks = 0


def check(good, what):
    global checks
    checks += 1
    if not good:
        sys.exit(f"FAILED: {what}")


def run(*arguments):
    return subprocess.run([program, *map(str, arguments)], capture_output=True, text=True, timeout=120)


def report(*arguments):
    path = folder / "report.json"
    done = run(*arguments, "--report", path)
    check(done.returncode == 0, f"{arguments}: {done.stderr}")
    found = json.loads(path.read_text())
    path.unlink()
    check(found["diverged"] is None, f"{arguments}: {found['diverged']}")
    return found


# A failed run gives one line and status 1, and leaves no file at the paths that it was to write.
def fails(says, *arguments, **more):
    done = subprocess.run([program, *map(str, arguments)], stderr=subprocess.PIPE, text=True, timeout=120,
                          **{"stdout": subprocess.PIPE, **more})
    check(done.returncode == 1, f"{arguments}: status {done.returncode}: {done.stderr}")
    check(done.stderr.count("\n") == 1 and re.search(says, done.stderr), f"{arguments}: {done.stderr!r}")
    return done.stdout


def small_disk():  # files are limited to 64 bytes
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (64, 64))


# The same fingerprint for all stages, and for every number of ranks over the same micro-batches: 3 ranks have four
# micro-batches too, the fewest that divide the batch evenly, and the last is rank 0's.
for precision in "fp32", "bf16", "bf16-remainder", "bf16-stochastic", "fp16":
    prints = set()
    losses = set()
    for ranks, passes in (1, 4), (2, 2), (4, 1), (3, 1):
        for stage in range(4):
            found = report("--ranks", ranks, "--micro-batches", passes, "--stage", stage, "--steps", 12,
                           "--precision", precision)
            check(list(found) == KEYS, f"keys of the report: {list(found)}")
            check(found["bytes_planned"] == found["bytes_counted"] and len(found["bytes_planned"]) == ranks,
                  f"bytes of {ranks} ranks at stage {stage}: {found['bytes_planned']} {found['bytes_counted']}")
            # At stage 3 backward gathers nothing again: both units are in one bucket, which is held at the turn.
            whole = 101770 * 2 * passes if ranks > 1 else 0
            check(passes > 1 or ranks == 3 or abs(sum(found["elements_sent_per_step"]) - whole * (ranks - 1)) <= 0,
                  f"elements sent by {ranks} ranks at stage {stage}: {found['elements_sent_per_step']}")
            prints.add(found["parameters_fingerprint"])
            losses.add(tuple(found["losses"]))
    check(len(prints) == 1, f"fingerprints in {precision}: {prints}")
    check(len(losses) == 1, f"losses in {precision} differ")
    check(len(next(iter(prints))) == 16, "a fingerprint has 16 digits")

# It learns with every optimizer.
for optimizer, rate in ("sgd", 0.1), ("adam", 3e-3), ("adamw", 3e-3):
    found = report("--optimizer", optimizer, "--lr", rate, "--epochs", 2)
    check(found["steps"] == 2 * (9000 // 64) == len(found["losses"]), "steps of two epochs")
    check(found["accuracy"] > 0.85 and found["losses"][0] > 2, f"{optimizer} learns: {found['accuracy']}")
    check(found["skipped_steps"] == 0 and found["seconds_per_step"] > 0, "a calm run")

# A run that diverges skips steps, reports its results, writes its report, and fails with the first sign of it.
left = folder / "left.json"
for ranks, precision in (1, "fp32"), (2, "bf16"):
    out = fails(r"the training diverged, first at step [2-6]: .*'(hidden|output)\.(weight|bias)' (is not finite|infinite or NaN)$",
                "--optimizer", "sgd", "--lr", 1e30, "--steps", 6, "--ranks", ranks, "--precision", precision, "--report", left)
    check("accuracy" in out and "bytes planned" in out, f"what came of it: {out}")
    found = json.loads(left.read_text(), parse_constant=lambda name: check(False, f"{name} in the report"))
    check(list(found) == KEYS and found["diverged"].startswith("first at step"), f"the report: {found}")
    check(found["skipped_steps"] > 0 and found["final_loss"] is None and len(found["losses"]) == 6, f"the report: {found}")
# Only the last update makes weights infinite, and no later step can report it.
fails(r"first at step 1: the update made '(hidden|output)\.\w+' infinite or NaN$", "--optimizer", "sgd", "--lr", 1e30,
      "--precision", "fp16", "--steps", 1)

# With a full disk: the cause is reported, no file is half written, and no report of an earlier run remains.
few = ["--steps", 2, "--batch", 8]
with open("/dev/full", "w") as full:
    fails("standard output: No space left", *few, "--report", left, stdout=full)
    fails("standard output: No space left", "--help", stdout=full)
check(json.loads(left.read_text())["diverged"] is None, "the report is there")
for option in "--report", "--timeline":
    fails(f"cannot write the {option[2:]} to .*: File too large", *few, option, left, preexec_fn=small_disk)
    check(not list(folder.glob("left.json*")), f"left behind: {list(folder.iterdir())}")
    left.write_text("of an earlier run")

# A run that was killed leaves no report either.
with subprocess.Popen([program, "--steps", "1000000", "--report", left], stdout=subprocess.PIPE) as running:
    running.stdout.readline()  # its progress: it trains
    running.kill()
check(not list(folder.glob("left.json*")), f"left behind: {list(folder.iterdir())}")

# The trace has the spans of every rank, and a picture shows one of its steps.
trace, picture = folder / "trace.json", folder / "step.svg"
done = run("--ranks", 2, "--stage", 2, "--steps", 5, "--timeline", trace)
check(done.returncode == 0, f"--timeline: {done.stderr}")
names = [event["name"] for event in json.loads(trace.read_text())["traceEvents"]]
for name in "step 4", "forward: hidden", "backward: output", "reduce_scatter: gradients of bucket 0", "update: bucket 0":
    check(names.count(name) >= 2, f"{name} on both ranks")
drawn = subprocess.run([sys.executable, svg, trace, picture, "--step", "3"], capture_output=True, text=True)
check(drawn.returncode == 0, f"{svg}: {drawn.stderr}")
bars = [element.get("class") for element in tree.parse(picture).getroot().iter("{http://www.w3.org/2000/svg}rect")]
for kind in "forward", "backward", "update", "reduce_scatter", "all_reduce":
    check(bars.count(kind) >= 3, f"bars of {kind} in the picture: two ranks' and the legend's")
drawn = subprocess.run([sys.executable, svg, trace, picture, "--step", "5"], capture_output=True, text=True)
check(drawn.returncode == 2 and "the timeline has [0, 1, 2, 3, 4], not 5" in drawn.stderr, "a step that is not there")

# A wrong argument gives one line and status 2.
wrong = {
    ("--stage", 4): "--stage", ("--ranks", 0): "--ranks", ("--ranks", "two"): "--ranks",
    ("--precision", "fp8"): "--precision",
    ("--optimizer", "lion"): "--optimizer", ("--batch", 61): "does not divide", ("--batch", 20000): "9000",
    ("--batch", 0): "--batch", ("--lr", "nan"): "--lr", ("--lr", -1): "--lr",
    ("--epochs", 1, "--steps", 1): "excludes", ("--steps", 0): "--steps", ("--bogus",): "--bogus",
    ("--data", folder / "nothing"): "cannot open", ("--report", folder / "no" / "where.json"): "no folder",
    ("--timeline", folder / "no" / "where.json"): "no folder", ("--timeline", "/dev/full"): "is not a plain file",
    ("--report", folder): "is not a plain file", ("--report", "/dev/full"): "is not a plain file",
    ("--seed", -1): "--seed", ("--seed", 10 ** 30): "--seed", ("--lr", 1e39): "--lr",
}
for arguments, says in wrong.items():
    done = run(*arguments)
    check(done.returncode == 2, f"{arguments}: status {done.returncode}")
    check(done.stderr.count("\n") == 1 and says in done.stderr, f"{arguments}: {done.stderr!r}")
    check(done.stdout == "", f"{arguments} prints {done.stdout!r}")

done = run("--help")
check(done.returncode == 0, "--help")
for option in "ranks stage precision optimizer epochs steps batch micro-batches lr seed data report timeline help".split():
    check("--" + option in done.stdout, f"--help tells of --{option}")

lines = run("--steps", 5).stdout.splitlines()
check(any("loss" in line and "samples/s" in line and "left" in line for line in lines), "progress in plain lines")
check(not any("\r" in line or "\033" in line for line in lines), "no bar in a pipe")
print(f"{checks} checks passed")
