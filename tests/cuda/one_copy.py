#!/usr/bin/env python3
"""Checks that kernels of the fused update have one copy of the arithmetic per lane of a pack, and 16-byte accesses.

    one_copy.py NVCC INCLUDE [CUOBJDUMP]

A compiler may fuse operations differently in each copy of a rule, so an element must be handled by the same copy at
every address. The rules tested here have one square root per element, so there must be as many roots as lanes. Checks
PTX, which needs no device, and machine code if cuobjdump is found. ptxas reports register spills.
"""
import re
import subprocess
import sys
import tempfile
from pathlib import Path

KERNELS = [("AdamW", "Fp32"), ("AdamW", "Bf16"), ("AdamW", "Fp16"), ("AdamW", "Bf16Remainder"),
           ("AdamW", "Bf16Stochastic"), ("NAdam", "Fp32"), ("Lamb", "Fp32")]
SOURCE = """
#include <tessera/cuda/exec/for_each.cuh>
#include <tessera/engine/memory/optimizer_state.hpp>
#include <tessera/precision/precision.hpp>
#include <tessera/rule/adamw.hpp>
#include <tessera/rule/lamb.hpp>
#include <tessera/rule/nadam.hpp>
namespace tessera::device {
""" + "".join(f"template void for_each(index_t, const engine::UpdateOfStep<{rule}, {precision}>&, int, cudaStream_t);\n"
              for rule, precision in KERNELS) + "}\n"

ENTRY = re.compile(r"(?:\.entry|Function :) (\w*for_each_kernelILi(\d+)E\w*)")


def kernels(listing):
    """The name, the lanes and the text of each kernel in a listing."""
    found = list(ENTRY.finditer(listing))
    ends = [entry.start() for entry in found[1:]] + [len(listing)]
    return [(entry[1], int(entry[2]), listing[entry.end():end]) for entry, end in zip(found, ends)]


def check(kind, listing, root, load, store):
    found = kernels(listing)
    if len(found) != len(KERNELS):
        sys.exit(f"{kind}: {len(found)} kernels found, {len(KERNELS)} expected")
    failures = 0
    for name, lanes, code in found:
        code = code.rpartition("EXIT")[0] or code  # after it are subroutines for rare cases, shared by all lanes
        roots, loads, stores = (len(re.findall(pattern, code)) for pattern in (root, load, store))
        right = roots == lanes and loads > 0 and stores > 0
        failures += not right
        print(f"{'ok' if right else 'FAILED'}: {kind}: {lanes} lanes, {roots} roots, 16 bytes at a time "
              f"{loads} loads and {stores} stores: {name}")
    return failures


def main(nvcc, include, cuobjdump=None):
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "one_copy.cu")
        source.write_text(SOURCE)
        compiled = subprocess.run(
            [nvcc, "-std=c++20", "-gencode", "arch=compute_80,code=sm_80", "-I", include, "-Xptxas", "-v", "--keep",
             "--keep-dir", folder, "-cubin", "-o", source.with_suffix(".cubin"), source],
            text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
        if compiled.returncode:
            sys.exit(compiled.stdout)
        failures = check("PTX", source.with_suffix(".ptx").read_text(), r"\bsqrt\.rn\.f32\b",
                         r"\bld\.global\.v4\.", r"\bst\.global\.v4\.")
        frames = re.findall(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads",
                            compiled.stdout)
        spilt = [frame for frame in frames if frame != ("0", "0", "0")]
        print(f"{'FAILED' if spilt or not frames else 'ok'}: of {len(frames)} kernels {len(spilt)} leave registers")
        failures += bool(spilt) or not frames
        if cuobjdump:
            code = subprocess.run([cuobjdump, "-sass", source.with_suffix(".cubin")], text=True, check=True,
                                  stdout=subprocess.PIPE).stdout
            failures += check("machine code", code, r"\bMUFU\.RSQ\b", r"\bLDG\.E\.128\b", r"\bSTG\.E\.128\b")
        else:
            print("cuobjdump not found: machine code is not looked at")
    sys.exit(failures > 0)


main(*sys.argv[1:])
