"""Compiles one file and passes if the compiler rejects it with the message that the file's first line expects. A .cu
file is compiled completely: nvcc has no -fsyntax-only, and some of its errors come at the end.

usage: expect_compile_error.py FILE COMPILER [FLAG...]
"""

import os
import re
import subprocess
import sys


def expectation(path):
    """The pattern (None if the file must compile) and the file's own flags."""
    with open(path, encoding="utf-8") as source:
        first, second = source.readline().strip(), source.readline().strip()
    flags = second.removeprefix("// flags:").split() if second.startswith("// flags:") else []
    if first == "// expect-success":
        return None, flags
    if not first.startswith("// expect: "):
        sys.exit(f"{path}:1: the first line must be '// expect: <regex>' or '// expect-success'")
    return first.removeprefix("// expect: "), flags


def main(path, *compiler):
    pattern, flags = expectation(path)
    what = ["-c", "-o", os.devnull] if path.endswith(".cu") else ["-fsyntax-only"]
    run = subprocess.run([*compiler, *flags, *what, path], capture_output=True, text=True, check=False)
    output = run.stdout + run.stderr
    if pattern is None:
        verdict = None if run.returncode == 0 else "must compile, but does not"
    elif run.returncode == 0:
        verdict = "must not compile, but does"
    # A compiler that crashed or found no file has not rejected the code.
    elif not re.search("error:|ptxas fatal", output) or "internal compiler error" in output or "file not found" in output \
            or "No such file or directory" in output:
        verdict = "failed for another reason"
    else:
        verdict = None if re.search(pattern, output) else f"failed with another message than /{pattern}/"
    if verdict:
        print(f"{path}: {verdict}\n{output}")
        return 1
    print(f"{path}: as expected")
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
