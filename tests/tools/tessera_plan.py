"""Tests tessera-plan from the command line. usage: tessera_plan.py PROGRAM ROOT"""

import json
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


def near(a, b, tolerance=1e-9):
    return abs(a - b) <= tolerance * max(abs(a), abs(b))


# The bytes of the ZeRO paper's table 1: 7.5 billion parameters, mixed-precision Adam. tessera-plan adds small buffers.
PAPER = {1: (120, 120, 120, 120), 4: (120, 52.5, 41.3, 30), 64: (120, 31.4, 16.6, 1.88), 1024: (120, 30.1, 15.1, 0.12)}
COUNTED = ["parameters", "gradients", "reduced gradients", "master weights", "optimizer state"]
for ranks, gigabytes in PAPER.items():
    for stage, printed in zip(plan(7.5e9, 48, ranks, "--optimizer", "adam")["stages"], gigabytes):
        model = sum(stage["allocations"][name] for name in COUNTED) / 1e9
        check(abs(model - printed) <= 0.1 * min(1, printed), f"stage {stage['stage']} on {ranks} ranks: {model} GB")
        check(stage["bytes"] == sum(stage["allocations"].values()), "bytes are the sum of the allocations")

# Every rule and precision of the library; state and master weights have the sizes of each.
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
        check(plan(1e6, 4, 4, "--optimizer", rule, "--precision", precision)["stages"][3]["bytes"] > 0, rule)
state = {rule: plan(1 << 20, 4, 1, "--optimizer", rule)["stages"][0]["allocations"]["optimizer state"] for rule in rules}
check(state["AdamW"] == 2 * 4 << 20 and state["Lion"] == 4 << 20 and state["AMSGrad"] == 3 * 4 << 20, f"state: {state}")
master = {p: plan(1 << 20, 4, 1, "--precision", p)["stages"][0]["allocations"]["master weights"] for p in precisions}
check(master["Fp32"] == 0 and master["Bf16"] == 4 << 20 and master["Bf16Remainder"] == 2 << 20, f"master: {master}")
check(plan(1e6, 4, 4, "--precision", "bf16-remainder") == plan(1e6, 4, 4, "--precision", "Bf16Remainder"), "spelling")

# A rank sends 2(N-1)/N n elements at stages 0 to 2; at stage 3 (N-1)/N (3n - the elements held at the turn); and the
# words of the agreement.
n, ranks = 64 * 8 * 1000 * 4, 8
for prefetch, held in (0, 1), (1, 2), (7, 4):
    stages = plan(n, 4, ranks, "--bucket-bytes", 1, "--prefetch", prefetch)["stages"]
    for stage, times in zip(stages, (2, 2, 2, 3 - held / 4)):
        agreement = 2 * (ranks - 1) / ranks * stage["allocations"]["agreement"]
        check(near(stage["sent_bytes"] - agreement, times * (ranks - 1) / ranks * n * 2), f"sent: {stage}")

# Times. With a network that takes almost no time, only computation is left, and sharding makes the update shorter.
free = ("--bandwidth-within", 1e29, "--bandwidth-between", 1e29, "--latency-within", 0, "--latency-between", 0)
for micro_batches in 1, 3:
    for stage in plan(1e9, 10, 16, *free, "--compute", 0.5, "--micro-batches", micro_batches,
                      "--memory-bandwidth", 3e10)["stages"]:
        update = 30 / 30 / (1 if stage["stage"] == 0 else 16)  # a billion elements of 30 bytes
        check(near(stage["seconds"], micro_batches * 0.5 + update, 1e-6), f"computing alone: {stage}")
        check(stage["exposed_share"] < 1e-6, f"nothing exposed: {stage}")
# A ring on one node without any overlap: the collectives of the four units run in sequence.
wire = ("--bandwidth-within", n * 2 / 4, "--latency-within", 0, "--ranks-a-node", ranks, "--bucket-bytes", 1)
for stage, times in zip(plan(n, 4, ranks, *wire, "--compute", 1e-9, "--memory-bandwidth", 1e29)["stages"], (8, 8, 8, 10)):
    check(near(stage["seconds"], times * 7 / 8, 1e-2), f"communication alone: {stage}")
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
check(plan(7e9, 32, 16, "--ranks-a-node", 16, *free[:2])["stages"][2]["communication_seconds"] <
      plan(7e9, 32, 16, "--ranks-a-node", 8, *free[:2])["stages"][2]["communication_seconds"], "two nodes")

# A plan that fits does so to the byte.
held = plan(1e9, 8, 8)["stages"]
for stage in held:
    for spare, fits in (0, True), (-1, False):
        found = plan(1e9, 8, 8, "--device-memory", stage["bytes"] + spare + 1000, "--activations", 1000)
        check(found["stages"][stage["stage"]]["fits"] == fits, f"stage {stage['stage']} with {spare} bytes to spare")

# Recommends the lowest stage that fits and is not slower; the reason is printed.
def recommended(*arguments):
    found = plan(1e9, 8, 8, *arguments)
    fitting = [stage for stage in found["stages"] if stage["fits"]]
    best = min((stage["seconds"] for stage in fitting), default=0)
    expected = next((stage["stage"] for stage in fitting if stage["seconds"] <= 1.05 * best), None)
    check(found["recommendation"]["stage"] == expected, f"{arguments}: {found['recommendation']}, not {expected}")
    return found["recommendation"]


slow_update = ("--memory-bandwidth", 1e11)
check(recommended("--memory-bandwidth", 1e15)["stage"] == 0, "all fit, none is faster")
check(recommended(*slow_update)["stage"] == 1, "stage 0 fits, and its update is whole")
check("longer" in recommended(*slow_update)["reason"], "says how much longer stage 0 would take")
for lower, upper in (0, 1), (1, 2), (2, 3):
    found = recommended("--device-memory", held[lower]["bytes"] - 1)
    check(found["stage"] == upper and "stage that fits" in found["reason"], f"below stage {lower}: {found}")

# If nothing fits, it reports the stages that would fit on more ranks, and that fewer ranks on one node would not.
found_at = set()
for model, ranks, *arguments in ((7e9, 128), 3, "--device-memory", "2G"), ((7e9, 128), 3, "--device-memory", "9.5G"), \
        ((7e9, 128), 3, "--device-memory", "2G", "--ranks-a-node", 3), \
        ((1e8, 1), 2, "--device-memory", "760M", "--ranks-a-node", 1), \
        ((1e8, 2), 2, "--device-memory", "660M", "--ranks-a-node", 2), ((1e9, 2), 1, "--device-memory", "4.1G"):
    found = plan(*model, ranks, *arguments)["recommendation"]
    enough, stage, node = found["ranks_that_fit"], found["stage_that_fits"], 8
    if "--ranks-a-node" in arguments:
        node = arguments[arguments.index("--ranks-a-node") + 1]
    check(found["stage"] is None and f"on {enough} ranks at stage {stage}." in found["reason"], f"{found}")
    fewer = enough - (node if enough > node else 1)
    fits = [one["fits"] for one in plan(*model, enough, *arguments)["stages"]]
    check(fits[stage] and not any(fits[:stage]), f"stage {stage} is the lowest that fits on {enough} ranks: {fits}")
    check(not any(one["fits"] for one in plan(*model, fewer, *arguments)["stages"]), f"{fewer} ranks do not")
    found_at.add(stage)
check(len(found_at) > 1, f"not stage 3 alone: {found_at}")
for arguments in ((7e9, 1, 64), (7e9, 1, 1000000, "--ranks-a-node", 1000000), (7e12, 1000, 900000, "--ranks-a-node", 300000)):
    found = plan(*arguments, "--device-memory", "2G")["recommendation"]
    check(found["stage"] is None and found["ranks_that_fit"] is None and found["stage_that_fits"] is None, f"{found}")
    check("No number of ranks up to 1.00 million" in found["reason"] and "-" not in found["reason"], f"{found}")
found = plan(7e12, 1000, 300000, "--ranks-a-node", 300000, "--device-memory", "100G")["recommendation"]
check(found["stage"] is not None or found["ranks_that_fit"], f"{found}")

# If activations leave no memory, no number of ranks helps, and no value is negative.
for activations in "80G", "81G", 1e30:
    given = ("--parameters", 7e9, "--layers", 32, "--ranks", 64, "--activations", activations)
    text = run(*given).stdout
    check("of 0 B " in text and "-activations" in text and not re.search(r"-\d", text), f"{activations}: {text}")
    found = plan(7e9, 32, 64, "--activations", activations)["recommendation"]
    check(found["ranks_that_fit"] is None and "leave nothing" in found["reason"], f"{found}")

# The table has the values of the JSON output.
arguments = ("--parameters", 7e9, "--layers", 32, "--ranks", 64)
lines = run(*arguments).stdout.splitlines()
for stage in plan(7e9, 32, 64)["stages"]:
    row = next(line for line in lines if re.match(rf" +{stage['stage']}  ", line))
    check(("fits" in row) == stage["fits"] and f"{100 * stage['exposed_share']:.1f}%" in row, row)
    check(near(float(row.split()[1]) * 1e9, stage["bytes"], 5e-3), row)
check("recommended: stage 1" in lines, "the recommendation")

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
check({look.split()[1] for look in looks} == {"curve0", "curve1", "curve2", "curve3"}, f"curves: {looks}")
check("curve curve0 absent" in looks and "curve curve3 absent" in looks and "curve curve3" in looks, f"dots: {looks}")
check("prefers-color-scheme: dark" in picture.read_text(), "a dark scheme")
for odd in (("--parameters", 1, "--layers", 1, "--ranks", 1), ("--parameters", 1e12, "--layers", 1000, "--ranks", 20000),
            ("--parameters", 1e6, "--layers", 3, "--ranks", 7, "--ranks-a-node", 7, "--device-memory", 1)):
    check(run(*odd, "--svg", picture).returncode == 0, f"{odd}")
    text = picture.read_text()
    tree.fromstring(text)
    check("nan" not in text and "inf" not in text, f"{odd}: no number")

# A wrong argument gives one line and status 2.
wrong = {
    (): "--parameters", ("--parameters", "many"): "--parameters", ("--parameters", 0): "--parameters",
    ("--parameters", "7B"): "--parameters", ("--parameters", "nan"): "--parameters", ("--layers", 0): "--layers",
    ("--ranks", 12): "12 ranks do not fill nodes of 8", ("--ranks", 0): "--ranks", ("--ranks", "two"): "--ranks",
    ("--ranks-a-node", 0): "--ranks-a-node", ("--device-memory", "80X"): "80X", ("--device-memory", -1): "--device-memory",
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
