"""Tests the transformer example from the command line. usage: transformer_command_line.py PROGRAM"""

import json
import re
import resource
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

program = sys.argv[1]
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


# A small text of two words in an order that a tiny model can learn, and a tiny model.
text = folder / "text.txt"
words, state = [], 1
for _ in range(1500):
    state = (state * 1103515245 + 12345) % 2 ** 31
    words.append("light" if state >> 16 & 1 else "darkness")
text.write_text(" ".join(words))
TINY = ["--data", text, "--layers", 2, "--width", 16, "--heads", 2, "--context", 16, "--batch", 8]


def run(*arguments):
    return subprocess.run([program, *map(str, arguments)], capture_output=True, text=True, timeout=120)


def report(*arguments):
    path = folder / "report.json"
    done = run(*TINY, *arguments, "--report", path)
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


# The same fingerprint and held-out loss for all stages, ranks, bucket sizes and prefetches (0: nothing overlaps at
# stage 3) over the same micro-batches.
for precision in "fp32", "bf16-stochastic", "fp16":
    found = [report("--ranks", ranks, "--micro-batches", 4 // ranks, "--stage", stage, "--steps", 6,
                    "--precision", precision, "--bucket-bytes", bucket, "--prefetch", prefetch)
             for ranks, bucket, prefetch in ((1, 1, 1), (2, 1, 2), (4, 1, 0), (3, 20000, 1), (2, 1 << 20, 0))
             for stage in range(4)]
    for one in found:
        check(list(one) == KEYS, f"keys of the report: {list(one)}")
        check(one["bytes_planned"] == one["bytes_counted"] and len(one["bytes_planned"]) == one["ranks"],
              f"bytes at stage {one['stage']}: {one['bytes_planned']} {one['bytes_counted']}")
    for key in "parameters_fingerprint", "losses", "final_loss", "accuracy":
        check(len({str(one[key]) for one in found}) == 1, f"{key} in {precision} differs")
    check(len(found[0]["parameters_fingerprint"]) == 16, "a fingerprint has 16 digits")
    check(found[0]["parameters_fingerprint"] != report("--steps", 6, "--precision", precision, "--seed", 2)
          ["parameters_fingerprint"], "another seed, other bits")

# The tied table is reduced once, with its unit: a step moves each parameter as often as without a tie.
units = [256 * 16 + 16 * 16, *[12 * 16 * 16 + 13 * 16] * 2, 2 * 16]
n = sum(units)
for stage in range(4):
    found = report("--stage", stage, "--steps", 2, "--bucket-bytes", 1)
    check(found["parameters"] == n, f"parameters: {found['parameters']}")
    sent = sum(found["elements_sent_per_step"])
    # At stage 3 backward gathers again only what the three slots do not hold after forward. They hold the last block,
    # the head and the table that the head shares.
    check(sent == 2 * n + (units[1] if stage == 3 else 0), f"elements sent at stage {stage}: {sent} of {n}")

# It learns with every optimizer. A word has 7.5 bytes on average, including its space, and is one of two: no model has
# a loss below log(2) / 7.5 = 0.092 nats per byte.
for optimizer, rate in ("sgd", 0.5), ("adam", 3e-3), ("adamw", 3e-3):
    found = report("--optimizer", optimizer, "--lr", rate, "--epochs", 3)
    check(found["losses"][0] > 5 and 0.09 < found["final_loss"] < 0.4, f"{optimizer} learns: {found['final_loss']}")
    check(found["accuracy"] > 0.85, f"{optimizer} guesses: {found['accuracy']}")
    check(found["skipped_steps"] == 0 and found["seconds_per_step"] > 0, "a calm run")

# The trace contains the last training step, although evaluation and the sample come after it.
trace = folder / "trace.json"
watched = report("--stage", 3, "--steps", 5, "--timeline", trace)
names = [event["name"] for event in json.loads(trace.read_text())["traceEvents"]]
for name in "step 4", "forward: head", "backward: block1", "backward: embedding":
    check(names.count(name) >= 2, f"{name} on both ranks")
check(watched["parameters_fingerprint"] == report("--stage", 3, "--steps", 5)["parameters_fingerprint"],
      "a timeline changes no bit")

# A run that diverges reports its results, writes its report, and fails with the first sign of the divergence.
left = folder / "left.json"
out = fails(r"the training diverged, first at step [1-6]: .*'\w+\.\w+' (is not finite|infinite or NaN)$", *TINY,
            "--optimizer", "sgd", "--lr", 1e30, "--steps", 6, "--report", left)
check("loss on text" in out and "bytes planned" in out, f"what came of it: {out}")
found = json.loads(left.read_text(), parse_constant=lambda name: check(False, f"{name} in the report"))
check(list(found) == KEYS and found["diverged"].startswith("first at step") and found["final_loss"] is None, f"{found}")
with open("/dev/full", "w") as full:
    fails("standard output: No space left", *TINY, "--steps", 1, stdout=full)
for option in "--report", "--timeline":
    fails(f"cannot write the {option[2:]} to .*: File too large", *TINY, "--steps", 1, option, left, preexec_fn=small_disk)
    check(not list(folder.glob("left.json*")), f"left behind: {list(folder.iterdir())}")

# A stage that needs more than the limit is refused with a stage that fits, and that one trains.
needs = [report("--stage", stage, "--steps", 1, "--bucket-bytes", 1)["bytes_planned"][0] for stage in range(4)]
least = min(needs)
check(least < needs[0], f"sharding saves memory: {needs}")
refused = run(*TINY, "--stage", 0, "--steps", 1, "--bucket-bytes", 1, "--limit-memory", least)
check(refused.returncode == 2 and refused.stderr.count("\n") == 1 and refused.stdout == "", f"{refused}")
check(f"stage 0 needs {needs[0]} bytes a rank" in refused.stderr, refused.stderr)
fits = re.findall(r"stage (\d) needs (\d+)", refused.stderr.split("what fits", 1)[1])
check([(int(s), int(b)) for s, b in fits] == [(s, b) for s, b in enumerate(needs) if b <= least], refused.stderr)
report("--stage", fits[0][0], "--steps", 1, "--bucket-bytes", 1, "--limit-memory", least)
refused = run(*TINY, "--stage", 3, "--limit-memory", "10K")
check(refused.returncode == 2 and "no stage fits" in refused.stderr and "10240" in refused.stderr, refused.stderr)

# A wrong argument gives one line and status 2.
short = folder / "short.txt"
short.write_text("too short")
wrong = {
    ("--stage", 4): "--stage", ("--ranks", 0): "--ranks", ("--precision", "fp8"): "--precision",
    ("--optimizer", "adamx"): "--optimizer", ("--batch", 61): "does not divide",
    ("--batch", 200000): "sequences",
    ("--lr", "nan"): "--lr", ("--epochs", 1, "--steps", 1): "excludes",
    ("--steps", 0): "--steps", ("--bogus",): "--bogus", ("--data", folder / "nothing"): "cannot read",
    ("--data", folder): "cannot read", ("--data", short): "too short", ("--report", folder): "is not a plain file",
    ("--width", 97): "--width 97 does not divide", ("--heads", 0): "--heads", ("--layers", 0): "--layers",
    ("--context", 100000): "--context", ("--context", 50000): "too short", ("--bucket-bytes", 0): "--bucket-bytes",
    ("--prefetch", -1): "--prefetch", ("--limit-memory", "much"): "--limit-memory",
}
for arguments, says in wrong.items():
    done = run(*arguments)
    check(done.returncode == 2, f"{arguments}: status {done.returncode}")
    check(done.stderr.count("\n") == 1 and says in done.stderr, f"{arguments}: {done.stderr!r}")
    check(done.stdout == "", f"{arguments} prints {done.stdout!r}")

done = run("--help")
check(done.returncode == 0, "--help")
for option in ("ranks stage precision optimizer epochs steps batch micro-batches lr seed data report timeline layers "
               "width heads context bucket-bytes prefetch limit-memory help").split():
    check("--" + option in done.stdout, f"--help tells of --{option}")

output = run(*TINY, "--steps", 5).stdout
lines = output.splitlines()
check(any("loss" in line and "tokens/s" in line and "left" in line for line in lines), "progress in plain lines")
check(not any("\r" in line or "\033" in line for line in lines), "no bar in a pipe")
check(re.search(r"\d before, \d\.\d+ after", output), "the loss before and after")
again = run(*TINY, "--steps", 5).stdout
check(output.split("rank  ")[1] == again.split("rank  ")[1], "the same loss and sample again")
print(f"{checks} checks passed")
