"""The mlp example as its users meet it: usage: mlp_command_line.py PROGRAM"""

import json
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
        "seconds_per_step"]
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
    return found


# One fingerprint for all stages, and for 1, 2 and 4 ranks over the same micro-batches.
for precision in "fp32", "bf16", "bf16-remainder", "bf16-stochastic", "fp16":
    prints = set()
    losses = set()
    for ranks, passes in (1, 4), (2, 2), (4, 1):
        for stage in range(4):
            found = report("--ranks", ranks, "--micro-batches", passes, "--stage", stage, "--steps", 12,
                           "--precision", precision)
            check(list(found) == KEYS, f"keys of the report: {list(found)}")
            check(found["bytes_planned"] == found["bytes_counted"] and len(found["bytes_planned"]) == ranks,
                  f"bytes of {ranks} ranks at stage {stage}: {found['bytes_planned']} {found['bytes_counted']}")
            whole = 101770 * (3 if stage == 3 else 2) * passes if ranks > 1 else 0
            check(passes > 1 or abs(sum(found["elements_sent_per_step"]) - whole * (ranks - 1)) <= 0,
                  f"elements sent by {ranks} ranks at stage {stage}: {found['elements_sent_per_step']}")
            prints.add(found["parameters_fingerprint"])
            losses.add(tuple(found["losses"]))
    check(len(prints) == 1, f"fingerprints in {precision}: {prints}")
    check(len(losses) == 1, f"losses in {precision} differ")
    check(len(next(iter(prints))) == 16, "a fingerprint has 16 digits")

# It learns, with every optimizer.
for optimizer, rate in ("sgd", 0.1), ("adam", 3e-3), ("adamw", 3e-3):
    found = report("--optimizer", optimizer, "--lr", rate, "--epochs", 2)
    check(found["steps"] == 2 * (9000 // 64) == len(found["losses"]), "steps of two epochs")
    check(found["accuracy"] > 0.85 and found["losses"][0] > 2, f"{optimizer} learns: {found['accuracy']}")
    check(found["skipped_steps"] == 0 and found["seconds_per_step"] > 0, "a calm run")

# Steps whose gradients overflow are skipped and counted.
found = report("--optimizer", "sgd", "--lr", 1e30, "--steps", 6)
check(found["skipped_steps"] > 0, "a run that diverges skips steps")

# What ran when, on every rank, and a picture of a step of it.
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

# What is wrong is one line and status 2.
wrong = {
    ("--stage", 4): "--stage", ("--ranks", 0): "--ranks", ("--ranks", "two"): "--ranks",
    ("--precision", "fp8"): "--precision",
    ("--optimizer", "lion"): "--optimizer", ("--batch", 63): "does not divide", ("--batch", 20000): "9000",
    ("--batch", 0): "--batch", ("--micro-batches", 3): "does not divide", ("--lr", "nan"): "--lr", ("--lr", -1): "--lr",
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
