"""Tests an example on CUDA devices from the command line, compared with the same example on the host. Without a device
it must report that; with one, emulated or not, it must learn what the host's learns.
usage: cuda_command_line.py PROGRAM PROGRAM_ON_HOST"""

import itertools
import json
import os
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

program, on_host = sys.argv[1:]
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


def report(executable, *arguments, **more):
    path = folder / "report.json"
    done = run(executable, *small, *arguments, "--report", path, **more)
    check(done.returncode == 0, f"{executable} {arguments}: {done.stderr}")
    return json.loads(path.read_text())


def refused(says, *arguments, **more):
    done = run(program, *arguments, **more)
    check(done.returncode == 2, f"{arguments}: status {done.returncode}: {done.stderr}")
    check(done.stderr.count("\n") == 1 and says in done.stderr, f"{arguments}: {done.stderr!r}")
    check(done.stdout == "", f"{arguments} prints {done.stdout!r}")


# A wrong argument gives one line and status 2, also without a device.
refused("--stage", "--stage", 4)
refused("does not divide", "--batch", 61)
refused("--optimizer", "--optimizer", "lion")
refused("--communicator", "--communicator", "mpi")
refused("--devices", "--devices", "-1")
alone = {"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "1"}
refused("not set: RANK", "--communicator", "nccl", env={})
refused("WORLD_SIZE", "--communicator", "nccl", env={**alone, "WORLD_SIZE": "two"})
refused('LOCAL_RANK is "1"', "--communicator", "nccl", env={**alone, "LOCAL_RANK": "1"})
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

# The losses equal the host's, up to the order of sums and fused operations, with every optimizer and precision. Each
# pair runs at one of the stages.
common = ["--steps", 4, "--ranks", 2, "--micro-batches", 2]
precisions = ["fp32", "bf16", "bf16-remainder", "bf16-stochastic", "fp16"]
for n, (optimizer, precision) in enumerate(itertools.product(["sgd", "adam", "adamw"], precisions)):
    chosen = [*common, "--optimizer", optimizer, "--precision", precision, "--stage", n % 4]
    what = " ".join(map(str, chosen))
    one, host = report(program, *chosen), report(on_host, *chosen)
    check(list(one) == list(host), f"keys of the report: {list(one)}")
    check(one["bytes_planned"] == one["bytes_counted"] and len(one["bytes_planned"]) == 2, f"bytes: {one}")
    for ours, theirs in zip(one["losses"], host["losses"], strict=True):
        check(abs(ours - theirs) < (1e-4 if precision == "fp32" else 2e-2), f"{what}: {one['losses']} {host['losses']}")
    check(one["skipped_steps"] == host["skipped_steps"], f"{what}: skipped: {one} {host}")
    if host["skipped_steps"] == 0:  # in a skipped step the host gathers nothing, and a device everything
        check(one["elements_sent_per_step"] == host["elements_sent_per_step"], f"{what}: elements sent: {one}")
    check(one["losses"][-1] < one["losses"][0], f"{what}: it learns: {one['losses']}")

# A run that diverges fails with the first sign of the divergence.
done = run(program, *small, *common, "--steps", 6, "--optimizer", "sgd", "--lr", 1e30)
check(done.returncode == 1 and done.stderr.count("\n") == 1 and "the training diverged, first at step" in done.stderr,
      f"diverges: {done}")

# The same bits at every stage.
stages = [report(program, *common, "--precision", "bf16", "--stage", stage) for stage in range(4)]
check(len({one["parameters_fingerprint"] for one in stages}) == 1, "fingerprints")


# A world of one process over NCCL adds nothing across ranks, so its bits equal those of one thread.
def free_ports():  # two in a row: torchrun uses MASTER_PORT, the example the next one
    while True:
        with socket.socket() as first, socket.socket() as second:
            first.bind(("127.0.0.1", 0))
            port = first.getsockname()[1]
            try:
                second.bind(("127.0.0.1", port + 1))
                return port
            except (OSError, OverflowError):
                continue


alone["MASTER_PORT"] = str(free_ports())
for stage in 0, 3:
    chosen = ["--steps", 4, "--precision", "bf16", "--stage", stage]
    local = report(program, *chosen, "--ranks", 1)
    nccl = report(program, *chosen, "--communicator", "nccl", env={**os.environ, **alone})
    for key in local:
        if key != "seconds_per_step":
            check(nccl[key] == local[key], f"{key} over nccl at stage {stage}: {nccl[key]}, not {local[key]}")
done = run(program, *small, "--steps", 4, "--communicator", "nccl", env={**os.environ, **alone})
check("step 4 of 4" in done.stdout, f"progress over nccl: {done.stdout}")
print("the host's losses with every optimizer in every precision")
