"""Exchanges parameters with PyPI's safetensors, in both directions.

usage: exchange.py PROGRAM   exits with 77 if safetensors or numpy is not installed
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

try:
    import numpy
    from safetensors import safe_open
    from safetensors.numpy import load_file, save_file
except ImportError as missing:
    print(f"skipped: {missing}")
    sys.exit(77)

PROGRAM = sys.argv[1]
SHAPES = {"embedding.weight": (5, 3), "head.weight": (2, 3, 7), "head.scale": ()}


def expected(index, shape, dtype):
    return (10 * index + numpy.arange(numpy.prod(shape, dtype=int))).reshape(shape).astype(dtype)


def check(tensors, dtype):
    assert set(tensors) == set(SHAPES), sorted(tensors)
    for index, (name, shape) in enumerate(SHAPES.items()):
        assert tensors[name].dtype == dtype and tensors[name].shape == shape, (name, tensors[name])
        assert (tensors[name] == expected(index, shape, dtype)).all(), name


def run(*arguments):
    return subprocess.run([PROGRAM, *map(str, arguments)], check=True, capture_output=True, text=True).stdout


with tempfile.TemporaryDirectory() as folder:
    path = Path(folder)
    run("export", path / "one.safetensors", 1 << 20)
    check(load_file(path / "one.safetensors"), numpy.float32)
    with safe_open(path / "one.safetensors", "np") as file:
        assert file.metadata() == {"format": "pt"}, file.metadata()

    run("export16", path / "half.safetensors")
    check(load_file(path / "half.safetensors"), numpy.float16)

    run("export", path / "several.safetensors", 100)
    files = json.loads((path / "several.safetensors.index.json").read_text())["weight_map"]
    assert len(set(files.values())) > 1, files
    check({name: load_file(path / file)[name] for name, file in files.items()}, numpy.float32)

    for dtype in (numpy.float32, numpy.float16):
        tensors = {name: numpy.random.default_rng(7).normal(size=shape).astype(dtype) for name, shape in SHAPES.items()}
        save_file({**tensors, "other": numpy.zeros(3, dtype)}, path / "python.safetensors")
        printed = dict(line.split() for line in run("import", path / "python.safetensors").splitlines())
        for name, tensor in tensors.items():
            flat = tensor.astype(numpy.float64).ravel()
            wanted = float((flat * (1 + numpy.arange(flat.size))).sum())
            assert abs(float(printed[name]) - wanted) <= 1e-9 * max(1, abs(wanted)), (name, printed[name], wanted)
print("exchanged")
