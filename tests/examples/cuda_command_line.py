"""An example on CUDA devices as its users meet it, beside the same example on the host. Where there is no device it
must say so; where there is one, emulated or not, it must learn what the host's learns.
usage: cuda_command_line.py PROGRAM PROGRAM_ON_HOST PRECISION.."""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

program, on_host, *precisions = sys.argv[1:]
folder = Path(tempfile.mkdtemp())
transformer = "transformer" in Path(program).name
small = []
if transformer:
    text = folder / "text.txt"
    text.write_text("In the beginning was the Word, and the Word was with God. " * 40)
    small = ["--data", text, "--layers", 2, "--width", 16, "--heads", 2, "--context", 16]
small += ["--batch", 8]


def check(good, what):
    if not good:
        sys.exit(f"FAILED: {what}")


def run(executable, *arguments, **more):
    return subprocess.run([executable, *map(str, arguments)], capture_output=True, text=True, timeout=250, **more)


def report(executable, *arguments):
    path = folder / "report.json"
    done = run(executable, *small, *arguments, "--report", path)
    check(done.returncode == 0, f"{executable} {arguments}: {done.stderr}")
    return json.loads(path.read_text())


def refused(says, *arguments, **more):
    done = run(program, *arguments, **more)
    check(done.returncode == 2, f"{arguments}: status {done.returncode}: {done.stderr}")
    check(done.stderr.count("\n") == 1 and says in done.stderr, f"{arguments}: {done.stderr!r}")
    check(done.stdout == "", f"{arguments} prints {done.stdout!r}")


# What is wrong is one line and status 2, without a device too.
refused("--stage", "--stage", 4)
refused("does not divide", "--batch", 63)
refused("--optimizer", "--optimizer", "lion")
refused("--communicator", "--communicator", "mpi")
refused("--devices", "--devices", "-1")
refused("RANK", "--communicator", "nccl", env={})
done = run(program, "--help")
check(done.returncode == 0, "--help")
for option in ("ranks stage precision optimizer epochs steps batch micro-batches lr seed data report communicator "
               "devices").split():
    check("--" + option in done.stdout, f"--help tells of --{option}")

probe = run(program, *small, "--steps", 1)
if probe.returncode != 0:
    refused("CUDA", *small, "--steps", 1)
    check("there is no CUDA d" in probe.stderr or "driver" in probe.stderr, probe.stderr)
    print("there is no device: it says so")
    sys.exit(0)

# The host's losses, but for what another order of sums and fused products do; the same bits at every stage.
for precision in precisions:
    common = ["--steps", 4, "--ranks", 2, "--micro-batches", 2, "--precision", precision]
    host = report(on_host, *common, "--stage", 3)
    found = [report(program, *common, "--stage", stage) for stage in range(4)]
    tolerance = 1e-4 if precision == "fp32" else 2e-2
    for stage, one in enumerate(found):
        check(list(one) == list(host), f"keys of the report: {list(one)}")
        check(one["bytes_planned"] == one["bytes_counted"] and len(one["bytes_planned"]) == 2, f"bytes: {one}")
        for ours, theirs in zip(one["losses"], host["losses"], strict=True):
            check(abs(ours - theirs) < tolerance, f"stage {stage}, {precision}: {one['losses']} {host['losses']}")
        check(one["skipped_steps"] == host["skipped_steps"], f"skipped: {one} {host}")
        if host["skipped_steps"] == 0:  # of a step that is skipped, the host's gathers nothing, and a device's all
            sent = report(on_host, *common, "--stage", stage)["elements_sent_per_step"]
            check(one["elements_sent_per_step"] == sent, f"elements sent at stage {stage}: {one}")
    check(len({one["parameters_fingerprint"] for one in found}) == 1, f"fingerprints in {precision}")
    check(found[0]["losses"][-1] < found[0]["losses"][0], "it learns")
print("the host's losses at every stage")
