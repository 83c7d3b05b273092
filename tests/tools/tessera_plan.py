"""Tests tessera-plan from the command line. usage: tessera_plan.py PROGRAM ROOT"""

import json
import math
import re
import shlex
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as tree
from pathlib import Path

program, root = sys.argv[1], Path(sys.argv[2])
folder = Path(tempfile.mkdtemp())
checks = 0


def check(good, what):
    global checks
    checks += 1
    if not good:
        sys.exit(f"FAILED: {what}")


def run(*arguments):
    return subprocess.run([program, *map(str, arguments)], capture_output=True, text=True, timeout=60)


def plan(parameters, layers, ranks, *arguments):
    done = run("--parameters", parameters, "--layers", layers, "--ranks", ranks, "--json", *arguments)
    check(done.returncode == 0 and not done.stderr, f"{arguments}: {done.stderr}")
    return json.loads(done.stdout)


def by_name(found):
    return {stage["stage"]: stage for stage in found["stages"]}


def near(a, b, tolerance=1e-9):
    return abs(a - b) <= tolerance * max(abs(a), abs(b))


# The bytes of the ZeRO paper's table 1: 7.5 billion parameters, mixed-precision Adam. tessera-plan adds small buffers.
PAPER = {1: (120, 120, 120, 120), 4: (120, 52.5, 41.3, 30), 64: (120, 31.4, 16.6, 1.88), 1024: (120, 30.1, 15.1, 0.12)}
COUNTED = ["parameters", "gradients", "reduced gradients", "master weights", "optimizer state"]
WHOLE = ("Stage0", "Stage1", "Stage2", "Stage3")  # those of the paper
HYBRID = ("StageHybrid", "StageHybridState")
ALL = ("Stage0", "Stage1", "Stage2", *HYBRID, "Stage3")


def model_bytes(stage):
    return sum(stage["allocations"][name] for name in COUNTED)


for ranks, gigabytes in PAPER.items():
    stages = by_name(plan(7.5e9, 48, ranks, "--optimizer", "adam"))
    for name, printed in zip(WHOLE, gigabytes):
        model = model_bytes(stages[name]) / 1e9
        check(abs(model - printed) <= 0.1 * min(1, printed), f"{name} on {ranks} ranks: {model} GB")
    for stage in stages.values():
        check(stage["bytes"] == sum(stage["allocations"].values()), "bytes are the sum of the allocations")

# Of 16 bytes an element StageHybrid holds 1/G, StageHybridState 2/G and 14/N. G: --group-size, or else a node's ranks.
for ranks, node, given, group in (64, 8, None, 8), (64, 16, None, 16), (64, 8, 4, 4), (64, 8, 16, 16), (64, 8, 32, 32), \
        (24, 8, 6, 6), (24, 8, 12, 12), (8, 8, 2, 2):
    elements = 64 * 4096 * ranks
    found = plan(elements, 64, ranks, "--ranks-per-node", node, "--optimizer", "adam", "--bucket-bytes", 1,
                 *(("--group-size", given) if given else ()))
    check(found["question"]["group_size"] == group, f"{given} of {ranks}: {found['question']}")
    check([stage["stage"] for stage in found["stages"]] == list(ALL), f"{given} of {ranks}: {found['stages']}")
    held = by_name(found)
    check(model_bytes(held["StageHybrid"]) == 16 * elements // group, f"{given} of {ranks}: {held['StageHybrid']}")
    check(model_bytes(held["StageHybridState"]) == 2 * elements // group + 14 * elements // ranks, f"{given} of {ranks}")
    check(held["Stage3"]["bytes"] < held["StageHybridState"]["bytes"] < held["Stage2"]["bytes"], "between stages 2 and 3")
    check(held["StageHybridState"]["bytes"] < held["StageHybrid"]["bytes"], "state over more ranks is less")
# Groups of one rank, or one of all, are other stages: they are left out, and the others are as they were.
for ranks, *given in (64, "--group-size", 1), (64, "--group-size", 64), (8,), (5,), (1,), (16, "--ranks-per-node", 1):
    found = plan(1e9, 8, ranks, *given)
    check([stage["stage"] for stage in found["stages"]] == list(WHOLE), f"{given} of {ranks}: {found['stages']}")
wide, narrow = (by_name(plan(1e9, 8, 64, "--group-size", group)) for group in (1, 8))
check(all(wide[name] == narrow[name] for name in WHOLE), "groups are the hybrid stages' alone")

# Every rule and precision of the library; state and master weights differ as they do there.
help_text = run("--help").stdout
rules, precisions = (re.search(option + r" TEXT:\{([^}]*)\}", help_text).group(1).split(",")
                     for option in ("--optimizer", "--precision"))
for known, room in (rules, "rule"), (precisions, "precision"):
    headers = [header.read_text(encoding="utf-8") for header in (root / "include/tessera" / room).glob("*.hpp")
               if header.name != "schedule.hpp"]
    there = re.findall(r'const char\* name = "(\w+)"', "".join(headers))
    check(sorted(known) == sorted(there) and there, f"{room}: {known}, the library has {there}")
for rule in rules:
    for precision in precisions:
        check(plan(1e6, 4, 4, "--optimizer", rule, "--precision", precision)["stages"][-1]["bytes"] > 0, rule)
state = {rule: plan(1 << 20, 4, 1, "--optimizer", rule)["stages"][0]["allocations"]["optimizer state"] for rule in rules}
check(state["AdamW"] == 2 * 4 << 20 and state["Lion"] == 4 << 20 and state["AMSGrad"] == 3 * 4 << 20, f"state: {state}")
master = {p: plan(1 << 20, 4, 1, "--precision", p)["stages"][0]["allocations"]["master weights"] for p in precisions}
check(master["Fp32"] == 0 and master["Bf16"] == 4 << 20 and master["Bf16Remainder"] == 2 << 20, f"master: {master}")
check(plan(1e6, 4, 4, "--precision", "bf16-remainder") == plan(1e6, 4, 4, "--precision", "Bf16Remainder"), "spelling")

# A rank sends 2(N-1)/N n elements at stages 0 to 2, at stage 3 (N-1)/N (3n - what is held at the turn), and what ranks
# agree on. In groups of G it gathers within them, (G-1)/G (2n - what is held), and what an update needs or makes from
# its N/G peers: (N/G-1)/(N/G) of the n/G that it holds.
n, ranks, group = 64 * 8 * 1000 * 4, 8, 2
for prefetch, held in (0, 1), (1, 2), (7, 4):
    stages = by_name(plan(n, 4, ranks, "--bucket-bytes", 1, "--prefetch", prefetch, "--group-size", group))
    wide, within, peers = (ranks - 1) / ranks, (group - 1) / group, 3 / 4 / group
    in_groups = wide + within * (2 - held / 4) + peers
    for name, times in zip(ALL, (2 * wide, 2 * wide, 2 * wide, in_groups, in_groups, (3 - held / 4) * wide)):
        agreement = 2 * wide * stages[name]["allocations"]["agreement"]
        check(near(stages[name]["sent_bytes"] - agreement, times * n * 2), f"sent: {stages[name]}")

# Times. With a network that takes almost no time, only computation is left, and sharding makes the update shorter.
free = ("--bandwidth-within", 1e29, "--bandwidth-between", 1e29, "--latency-within", 0, "--latency-between", 0)
for micro_batches in 1, 3:
    for stage in plan(1e9, 10, 16, *free, "--compute", 0.5, "--micro-batches", micro_batches,
                      "--memory-bandwidth", 3e10)["stages"]:
        shards = {"Stage0": 1, "StageHybrid": 8}.get(stage["stage"], 16)
        update = 30 / 30 / shards  # a billion elements of 30 bytes
        check(near(stage["seconds"], micro_batches * 0.5 + update, 1e-6), f"computing alone: {stage}")
        check(stage["exposed_share"] < 1e-6, f"nothing exposed: {stage}")
# A ring on one node without any overlap: the collectives of the four units run in sequence.
wire = ("--bandwidth-within", n * 2 / 4, "--latency-within", 0, "--ranks-per-node", ranks, "--bucket-bytes", 1)
bound = ("--compute", 1e-9, "--memory-bandwidth", 1e29, "--group-size", group)
in_groups = 4 * 7 / 8 + 6 / 2 + 4 * 3 / 8
for stage, times in zip(plan(n, 4, ranks, *wire, *bound)["stages"], (7, 7, 7, in_groups, in_groups, 10 * 7 / 8)):
    check(near(stage["seconds"], times, 1e-2), f"communication alone: {stage}")
    check(stage["exposed_share"] > 0.999, f"all exposed: {stage}")
    check(near(stage["communication_seconds"], stage["seconds"], 1e-6), f"collectives in a row: {stage}")
for stage in plan(7e9, 32, 64, "--bandwidth-between", "2G")["stages"]:
    check(near(stage["seconds"], stage["compute_seconds"] + stage["exposed_seconds"]), f"sum: {stage}")
    check(near(stage["exposed_share"], stage["exposed_seconds"] / stage["seconds"]), f"share: {stage}")
check(near(plan(7e9, 32, 8, "--tokens", 1000, "--flops", 2e14)["question"]["pass_seconds"], 6 * 7e9 * 1000 / 2e14),
      "six operations a parameter and token")
check(plan("7G", 32, 64, "--device-memory", "80GB", "--bucket-bytes", "4Mi") ==
      plan(7e9, 32, 64, "--device-memory", 8e10, "--bucket-bytes", 4 << 20), "7G is 7e9")
# Several nodes: communication between nodes is slower.
check(plan(7e9, 32, 16, "--ranks-per-node", 16, *free[:2])["stages"][2]["communication_seconds"] <
      plan(7e9, 32, 16, "--ranks-per-node", 8, *free[:2])["stages"][2]["communication_seconds"], "two nodes")

# Between nodes groups of a node's ranks send no parameters but those of an update: on a slow network they are faster.
slow = by_name(plan(7e9, 32, 64, "--bandwidth-between", "2G"))
check(all(slow[name]["seconds"] < 0.8 * slow["Stage3"]["seconds"] for name in HYBRID), f"hybrid on a slow network: {slow}")

# What fits, fits to the byte.
held = by_name(plan(1e9, 8, 8, "--group-size", 4))
for name, stage in held.items():
    for spare, fits in (0, True), (-1, False):
        found = plan(1e9, 8, 8, "--group-size", 4, "--device-memory", stage["bytes"] + spare + 1000, "--activations", 1000)
        check(by_name(found)[name]["fits"] == fits, f"{name} with {spare} bytes to spare")

# Recommended is the lowest stage that fits and is not slower; the reason says why.
def recommended(*arguments, group=8):
    found = plan(1e9, 8, 8, "--group-size", group, *arguments)
    fitting = [stage for stage in found["stages"] if stage["fits"]]
    best = min((stage["seconds"] for stage in fitting), default=0)
    expected = next((stage["stage"] for stage in fitting if stage["seconds"] <= 1.05 * best), None)
    check(found["recommendation"]["stage"] == expected, f"{arguments}: {found['recommendation']}, not {expected}")
    return found["recommendation"]


slow_update = ("--memory-bandwidth", 1e11)
check(recommended("--memory-bandwidth", 1e15)["stage"] == "Stage0", "all fit, none is faster")
check(recommended(*slow_update)["stage"] == "Stage1", "stage 0 fits, and its update is whole")
check("longer" in recommended(*slow_update)["reason"], "says how much longer stage 0 would take")
for stages, group in (WHOLE, 8), (("Stage0", "Stage1", "Stage2", "StageHybridState", "Stage3"), 4):
    for lower, upper in zip(stages, stages[1:]):
        found = recommended("--device-memory", held[lower]["bytes"] - 1, group=group)
        check(found["stage"] == upper and "stage that fits" in found["reason"], f"below {lower}: {found}")
found = plan(13e9, 40, 64, "--device-memory", "30G", "--bandwidth-between", "5G")["recommendation"]
check(found["stage"] == "StageHybrid" and "StageHybridState, would save" in found["reason"], f"{found}")
found = plan(13e9, 40, 64, "--device-memory", "20G", "--bandwidth-between", "5G")["recommendation"]
check(found["stage"] == "StageHybridState" and "none that fits is faster" in found["reason"], f"{found}")

# If nothing fits, it reports the stages that would fit on more ranks, and that fewer ranks on one node would not.
found_at = set()
for model, ranks, *arguments in ((7e9, 128), 3, "--device-memory", "2G"), ((7e9, 128), 3, "--device-memory", "9.5G"), \
        ((7e9, 128), 3, "--device-memory", "2G", "--ranks-per-node", 3), \
        ((1e8, 1), 2, "--device-memory", "760M", "--ranks-per-node", 1), \
        ((1e8, 2), 2, "--device-memory", "660M", "--ranks-per-node", 2), ((1e9, 2), 1, "--device-memory", "4.1G"), \
        ((1e9, 64), 4, "--device-memory", "2.1G", "--group-size", 4), \
        ((1e9, 64), 6, "--device-memory", "700M", "--ranks-per-node", 12, "--group-size", 6), \
        ((1e9, 64), 1, "--device-memory", "500M", "--group-size", 1):
    found = plan(*model, ranks, *arguments)["recommendation"]
    enough, stage, node = found["ranks_that_fit"], found["stage_that_fits"], 8
    if "--ranks-per-node" in arguments:
        node = arguments[arguments.index("--ranks-per-node") + 1]
    check(found["stage"] is None and f"on {enough} ranks at {stage}." in found["reason"], f"{found}")
    fewer = enough - (node if enough > node else 1)
    # Without its groups where they do not divide so many ranks, or are all of them: the hybrid stages are not there.
    at, below = (plan(*model, count, *(arguments if count % arguments[-1] == 0 else arguments[:-2]))
                 if "--group-size" in arguments else plan(*model, count, *arguments) for count in (enough, fewer))
    fits = [one["stage"] for one in at["stages"] if one["fits"]]
    check(fits and fits[0] == stage, f"{stage} is the lowest that fits on {enough} ranks: {fits}")
    check(not any(one["fits"] for one in below["stages"]), f"{fewer} ranks do not")
    found_at.add(stage)
check({"Stage3", "StageHybridState"} < found_at, f"not stage 3 alone: {found_at}")
for arguments in ((7e9, 1, 64), (7e9, 1, 1000000, "--ranks-per-node", 1000000), (7e12, 1000, 900000, "--ranks-per-node", 300000)):
    found = plan(*arguments, "--device-memory", "2G")["recommendation"]
    check(found["stage"] is None and found["ranks_that_fit"] is None and found["stage_that_fits"] is None, f"{found}")
    check("No number of ranks up to 1.00 million" in found["reason"] and "-" not in found["reason"], f"{found}")
many = ("--ranks-per-node", 1000000, "--group-size", 999999)  # of which two fill no nodes that are asked about
found = plan(1e9, 1, 999999, "--device-memory", "1M", *many)["recommendation"]
check(found["stage"] is None and found["ranks_that_fit"] is None, f"{found}")
found = plan(7e12, 1000, 300000, "--ranks-per-node", 300000, "--device-memory", "100G")["recommendation"]
check(found["stage"] is not None or found["ranks_that_fit"], f"{found}")

# If activations leave no memory, no number of ranks helps, and no value is negative.
for activations in "80G", "81G", 1e30:
    given = ("--parameters", 7e9, "--layers", 32, "--ranks", 64, "--activations", activations)
    text = run(*given).stdout
    check("of 0 B " in text and "-activations" in text and not re.search(r"-\d", text), f"{activations}: {text}")
    found = plan(7e9, 32, 64, "--activations", activations)["recommendation"]
    check(found["ranks_that_fit"] is None and "leave nothing" in found["reason"], f"{found}")

# The table says what the JSON says, in at most 80 columns.
arguments = ("--parameters", 7e9, "--layers", 32, "--ranks", 64)
lines = run(*arguments).stdout.splitlines()
for stage in plan(7e9, 32, 64)["stages"]:
    row = next(line for line in lines if line.startswith(stage["stage"] + "  "))
    check(("fits" in row) == stage["fits"] and f"{100 * stage['exposed_share']:.1f}%" in row, row)
    check(near(float(row.split()[1]) * 1e9, stage["bytes"], 5e-3), row)
    check(near(float(row.split("fits" if stage["fits"] else "too much")[1].split()[0]) * 1e9, stage["sent_bytes"], 5e-3), row)
check("recommended: Stage1" in lines and "groups of 8" in " ".join(lines), "the recommendation, and the groups")
check("groups" not in run(*arguments, "--group-size", 64).stdout, "no groups where no stage has them")
for wide in ((*arguments, "--device-memory", "1G"), (*arguments, "--activations", "81G"),
             ("--parameters", 1e15, "--layers", 1000, "--ranks", 1000000, "--optimizer", "scheduleFreeAdamW", "--precision",
              "Bf16ReduceFp32", "--ranks-per-node", 500000, "--group-size", 250000, "--micro-batches", 1000)):
    for line in run(*wide).stdout.splitlines():
        check(len(line) <= 80 and line == line.rstrip(), f"{wide}: {line}")

# Times are accepted with units, other numbers are not.
for text, seconds in ("5us", 5e-6), ("0.3ms", 3e-4), ("2s", 2), ("70ns", 7e-8), ("1e-3", 1e-3):
    found = plan(7e9, 32, 64, "--latency-within", text, "--compute", text)["question"]
    check(near(found["within"]["latency_seconds"], seconds) and near(found["pass_seconds"], seconds), f"{text}: {found}")

# At the limits of the ranges every number in the JSON output and the picture is finite.
least = ("--bandwidth-within", 1, "--bandwidth-between", 1, "--memory-bandwidth", 1, "--latency-within", 1e6,
         "--latency-between", 1e6, "--flops", 1, "--tokens", 1e12, "--micro-batches", 1000, "--bucket-bytes", 1)
most = ("--bandwidth-within", 1e30, "--bandwidth-between", 1e30, "--memory-bandwidth", 1e30, "--latency-within", 0,
        "--latency-between", 0, "--flops", 1e30, "--tokens", 1, "--bucket-bytes", 1e15)
for end in least, most:
    for model in (1e16, 5, 800), (1, 1, 1):
        given = ("--parameters", model[0], "--layers", model[1], "--ranks", model[2], *end)
        said = [run(*given).stdout, json.dumps(plan(*model, *end)["stages"])]
        check(run(*given, "--svg", folder / "end.svg").returncode == 0, f"{given}")
        said.append((folder / "end.svg").read_text().split("</style>")[1])
        check(not any(re.search(r"nan|null|\binf\b|Infinity", text) for text in said), f"{given}: {said}")

# Many layers, micro-batches and prefetched buckets take a short time, since passes repeat; the result counts all
# passes.
for more in ((), ("--prefetch", 1000), ("--prefetch", 100, "--bandwidth-between", "1G"), ("--latency-between", "2ms")):
    began = time.monotonic()
    given = ("--parameters", 7e9, "--layers", 1000, "--ranks", 64, "--micro-batches", 1000, *more)
    check(run(*given, "--svg", folder / "long.svg").returncode == 0, f"{given}")
    check(time.monotonic() - began < 20, f"{given}: {time.monotonic() - began} s")
for bandwidth in "1G", "4G", "9G", "20G":  # a pass bound by computation, by communication, and close to both
    one, ten, all_of_them = (plan(7e9, 20, 64, "--micro-batches", m, "--bandwidth-between", bandwidth)["stages"]
                             for m in (100, 200, 1000))
    for a, b, c in zip(one, ten, all_of_them):
        for key in "seconds", "compute_seconds", "communication_seconds", "sent_bytes":
            check(near(c[key], b[key] + 8 * (b[key] - a[key]), 1e-6), f"{key} of 1000 passes at {bandwidth}: {a} {b} {c}")
        check(near(c["seconds"], c["compute_seconds"] + c["exposed_seconds"]), f"sum: {c}")

# A file that cannot be written gives one line and status 1, and no file is left.
with open("/dev/full", "w") as full:
    for more in (), ("--json",), ("--help",):
        done = subprocess.run([program, *map(str, arguments), *more], stdout=full, stderr=subprocess.PIPE, text=True)
        check(done.returncode == 1 and done.stderr.count("\n") == 1 and "No space left" in done.stderr, f"{more}: {done}")
done = run(*arguments, "--svg", "/dev/full")
check(done.returncode == 1 and done.stderr.count("\n") == 1 and "/dev/full" in done.stderr and not done.stdout, f"{done}")

# The picture is well-formed, within its frame, in both color schemes, with a curve per stage and dots where it does not
# fit.
picture = folder / "plan.svg"
check(run(*arguments, "--svg", picture).returncode == 0, "--svg")
picture_text = picture.read_text()
svg = tree.parse(picture).getroot()
width, height = map(float, svg.get("viewBox").split()[2:])
for element in svg.iter():
    for key, most in ("x", width), ("x1", width), ("x2", width), ("y", height), ("y1", height), ("y2", height):
        check(0 <= float(element.get(key, 0)) <= most, f"{element.attrib} is outside")
    if element.tag.endswith("rect"):
        check(float(element.get("width")) >= 0 and float(element.get("height")) >= 0, f"{element.attrib}")
    if "d" in element.attrib:
        points = [float(number) for number in re.findall(r"[\d.]+", element.get("d"))]
        check(all(0 <= x <= width for x in points[::2]) and all(0 <= y <= height for y in points[1::2]), "a curve")
# No label overlaps a bar or the line of the available memory: about 7 units of width per letter, 12 of height.
def overlaps(svg):
    name = "{http://www.w3.org/2000/svg}"
    bars = [[float(one.get(key)) for key in ("x", "y", "width", "height")] for one in svg.iter(name + "rect")
            if one.get("class", "").startswith("part")]
    lines = [[float(one.get(key)) for key in ("x1", "y1", "x2")] for one in svg.iter(name + "line") if one.get("class") == "limit"]
    bars += [[x1, y, x2 - x1, 0] for x1, y, x2 in lines]
    for text in svg.iter(name + "text"):
        wide = 7 * len(text.text)
        left = float(text.get("x")) - {"start": 0, "middle": wide / 2, "end": wide}[text.get("text-anchor")]
        low = float(text.get("y"))
        for x, y, w, h in bars:
            if left < x + w and x < left + wide and low - 10 < y + h and y < low + 3:
                yield text.text


for memory in ("80G", "0"), ("80G", "20G"), ("3G", "0"), ("54.5G", "0"), ("33G", "0"), ("6.5G", "0"), ("220G", "0"):
    device = ("--device-memory", memory[0], "--activations", memory[1])
    check(run("--parameters", 13e9, "--layers", 40, "--ranks", 64, *device, "--svg", picture).returncode == 0, f"{device}")
    check(not list(overlaps(tree.parse(picture).getroot())), f"{device}: {list(overlaps(tree.parse(picture).getroot()))}")

looks = [element.get("class", "") for element in svg.iter() if element.tag.endswith("path")]
check({look.split()[1] for look in looks} == set(ALL), f"curves: {looks}")
check("curve Stage0 absent" in looks and "curve Stage3 absent" in looks and "curve Stage3" in looks, f"dots: {looks}")
check("prefers-color-scheme: dark" in picture.read_text(), "a dark scheme")
for name in ALL:
    for element in "text", "path":
        check(picture_text.count(f"{element}.{name} {{") >= 2, f"{name} has a colour in both schemes")
# The hybrid curves begin where there are two groups; where the axis ends before that, there are none.
def curve(stage, *arguments):
    check(run("--parameters", 7e9, "--layers", 32, *arguments, "--svg", picture).returncode == 0, f"{arguments}")
    paths = [one for one in tree.parse(picture).getroot().iter() if one.get("class", "").startswith(f"curve {stage}")
             and one.get("class").split()[1] == stage]
    return [float(x) for path in paths for x in re.findall(r"[ML]([\d.]+)", path.get("d"))]


for ranks, node, group, first in (64, 8, 8, 16), (64, 8, 2, 4), (64, 8, 16, 32), (48, 8, 12, 24), (64, 8, 32, 64):
    xs = curve("StageHybrid", "--ranks", ranks, "--ranks-per-node", node, "--group-size", group)
    left, right = (curve("Stage3", "--ranks", ranks)[end] for end in (0, -1))
    expected = left + (right - left) * math.log10(first) / 4
    check(abs(min(xs) - expected) < 0.1 and max(xs) <= right + 0.1, f"groups of {group} begin at {min(xs)}, not {expected}")
check(curve("StageHybrid", "--ranks", 16) and not curve("StageHybrid", "--ranks", 8), "8 ranks are one group")
check(curve("StageHybrid", "--ranks", 18000, "--group-size", 9000) == [], "groups for which the axis ends too soon")
for odd in (("--parameters", 1, "--layers", 1, "--ranks", 1), ("--parameters", 1e12, "--layers", 1000, "--ranks", 20000),
            ("--parameters", 1e6, "--layers", 3, "--ranks", 7, "--ranks-per-node", 7, "--device-memory", 1),
            ("--parameters", 1e6, "--layers", 3, "--ranks", 24, "--group-size", 12),
            ("--parameters", 1e6, "--layers", 3, "--ranks", 999999, "--ranks-per-node", 333333, "--group-size", 333333)):
    check(run(*odd, "--svg", picture).returncode == 0, f"{odd}")
    text = picture.read_text()
    tree.fromstring(text)
    check("nan" not in text and "inf" not in text, f"{odd}: no number")

# A wrong argument gives one line and status 2.
wrong = {
    (): "--parameters", ("--parameters", "many"): "--parameters", ("--parameters", 0): "--parameters",
    ("--parameters", "7B"): "--parameters", ("--parameters", "nan"): "--parameters", ("--layers", 0): "--layers",
    ("--ranks", 12): "12 ranks do not fill nodes of 8", ("--group-size", 7): "64 ranks do not divide into groups of 7",
    ("--group-size", 128): "do not divide into groups of 128", ("--group-size", 0): "--group-size", ("--group-size", "x"): "--group-size",
    ("--ranks", 0): "--ranks", ("--ranks", "two"): "--ranks",
    ("--ranks-per-node", 0): "--ranks-per-node", ("--device-memory", "80X"): "80X", ("--device-memory", -1): "--device-memory",
    ("--bandwidth-between", 0): "--bandwidth-between", ("--latency-within", -1): "--latency-within",
    ("--latency-within", "inf"): "--latency-within", ("--latency-within", "5m"): "no number", ("--compute", "3G"): "no number",
    ("--bandwidth-within", 1e-300): "is not in [1, 1e+30] bytes a second", ("--tokens", 1e-3): "[1, 1e+12] tokens",
    ("--memory-bandwidth", 0.5): "[1, 1e+30]", ("--device-memory", "5ms"): "no number", ("--bandwidth-within", "1e31"): "[1, 1e+30]",
    ("--compute", 1e-13): "[1e-12, 1e+09] seconds", ("--latency-between", "2e6s"): "[0, 1e+06] seconds",
    ("--precision", "fp8"): "--precision", ("--optimizer", "adamax"): "--optimizer", ("--flops", 0): "--flops",
    ("--compute", 1, "--tokens", 5): "excludes", ("--micro-batches", 0): "--micro-batches", ("--prefetch", -1): "--prefetch",
    ("--bucket-bytes", 0): "--bucket-bytes", ("--bogus",): "--bogus", ("--svg", folder / "no" / "where.svg"): "cannot write",
}
for changed, says in wrong.items():
    given = dict(zip(arguments[::2], arguments[1::2])) if changed else {}
    given.update(zip(changed[::2], changed[1::2]) if len(changed) % 2 == 0 else {changed[0]: ""})
    done = run(*(part for pair in given.items() for part in pair if part != ""))
    check(done.returncode == 2, f"{changed}: status {done.returncode}")
    check(done.stderr.count("\n") == 1 and says in done.stderr, f"{changed}: {done.stderr!r}")
    check(done.stdout == "", f"{changed} prints {done.stdout!r}")

# The docs page shows the program's output and its picture.
page = (root / "docs" / "choosing.md").read_text(encoding="utf-8")
shown = re.findall(r"^    \$ tessera-plan (.*)\n((?:    .*\n|\n)*)", page, re.MULTILINE)
check(len(shown) >= 2, "docs/choosing.md shows runs")
for command, output in shown:
    lines = [line.removeprefix("    ").rstrip() for line in output.strip("\n").split("\n")]
    given = shlex.split(command)
    if "--svg" in given:
        target = given.index("--svg") + 1
        drawn = root / "docs" / Path(given[target]).name
        given[target] = str(picture)
    printed = [line.rstrip() for line in run(*given).stdout.strip("\n").split("\n")]
    check(printed == lines, f"docs/choosing.md, {command}:\n" + "\n".join(printed))
    if "--svg" in given:
        check(picture.read_text() == drawn.read_text(), f"{drawn} is not what {command} draws")
print(f"{checks} checks passed")
