"""Tests examples/hello.cpp as a reader would use it. usage: hello_alone.py COMPILER

It compiles with the one line in its second comment, learns, has the same loss at every stage, and is shown completely
in README.md.
"""

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

root = Path(__file__).resolve().parents[2]
source = (root / "examples" / "hello.cpp").read_text(encoding="utf-8")

blocks = re.findall(r"```cpp\n(.*?)```", (root / "README.md").read_text(encoding="utf-8"), re.DOTALL)
if source not in blocks:
    sys.exit("FAILED: README.md does not show examples/hello.cpp whole")

command = re.search(r"^// +g\+\+ (.*) -o hello && ./hello$", source, re.MULTILINE)
if not command:
    sys.exit("FAILED: examples/hello.cpp does not say how it is compiled")
with tempfile.TemporaryDirectory() as folder:
    program = os.path.join(folder, "hello")
    subprocess.run([sys.argv[1], *command.group(1).split(), "-o", program], cwd=root, check=True)
    output = subprocess.run([program], capture_output=True, text=True, check=True, timeout=60).stdout

losses = {}
for line in output.splitlines():
    stage, step, loss = re.fullmatch(r"(Stage\d)  step +(\d+)  loss (\d\.\d+)", line).groups()
    losses.setdefault(stage, []).append((int(step), float(loss)))
if sorted(losses) != ["Stage0", "Stage1", "Stage2", "Stage3"]:
    sys.exit(f"FAILED: not every stage ran:\n{output}")
if any(of_stage != losses["Stage0"] for of_stage in losses.values()):
    sys.exit(f"FAILED: the stages differ:\n{output}")
if losses["Stage0"][-1][1] > 0.3:  # it begins at log 2 = 0.693
    sys.exit(f"FAILED: nothing was learned:\n{output}")
print(output, end="")
