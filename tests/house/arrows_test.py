"""Plants breaches in a small house and looks whether arrows.py finds each, and nothing where there is none."""

import tempfile
import unittest
from pathlib import Path

import arrows

SOUND = {
    "tessera.hpp": ["sharded.hpp"],
    "mpi.hpp": ["tessera.hpp", "comm/mpi.hpp"],
    "cuda.cuh": ["tessera.hpp", "cuda/executor.cuh"],
    "sharded.hpp": ["engine/storage.hpp", "rule/adam.hpp"],
    "core/config.hpp": [],
    "core/math.hpp": ["core/config.hpp"],
    "layout/layout.hpp": ["core/math.hpp"],
    "layout/plan.hpp": ["layout/layout.hpp"],
    "rule/adam.hpp": ["core/math.hpp"],
    "exec/host.hpp": ["core/math.hpp"],
    "comm/local.hpp": ["exec/host.hpp", "core/math.hpp"],
    "comm/mpi.hpp": ["exec/host.hpp"],
    "engine/storage.hpp": ["comm/local.hpp", "layout/plan.hpp"],
    "checkpoint/save.hpp": ["sharded.hpp"],
    "cuda/executor.cuh": ["exec/host.hpp", "comm/local.hpp"],
}


def header(includes, extra=""):
    lines = "".join(f"#include <tessera/{name}>\n" for name in includes)
    return f"// What it is.\n#pragma once\n{lines}{extra}"


class Planted(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)
        self.root = Path(self.folder.name)
        for name, includes in SOUND.items():
            self.write(name, header(includes))
            mirror = self.root / "tests" / Path(name).with_suffix(".cpp")
            mirror.parent.mkdir(parents=True, exist_ok=True)
            mirror.touch()

    def write(self, name, text):
        path = self.root / "include" / "tessera" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")

    def breaches(self):
        return arrows.House(self.root).check()

    def finds(self, *wanted):
        found = self.breaches()
        self.assertEqual(len(found), len(wanted), found)
        for breach, what in zip(found, wanted):
            self.assertIn(what, breach)

    def test_a_sound_house_has_no_breach(self):
        self.write("core/config.hpp", header([], "#if defined(__CUDACC__)\n#endif\n"))
        self.write("exec/host.hpp", header(["core/math.hpp"], '// #include "x.h" or __CUDACC__\n/* __NVCC__\n */\n'))
        self.write("cuda/executor.cuh", header(["exec/host.hpp"], "#include <cuda_runtime.h>\n"))
        self.write("comm/mpi.hpp", header(["exec/host.hpp"], "#include <mpi.h>\n"))
        self.finds()

    def test_brothers_are_blind_to_each_other(self):
        self.write("rule/adam.hpp", header(["layout/layout.hpp"]))
        self.finds("include/tessera/rule/adam.hpp:3: rule may not look at layout")

    def test_core_looks_at_nothing(self):
        self.write("core/math.hpp", header(["stage/stage.hpp"]))
        self.write("stage/stage.hpp", header([]))
        (self.root / "tests" / "stage").mkdir()
        (self.root / "tests" / "stage" / "stage.cpp").touch()
        self.finds("core may not look at stage")

    def test_nobody_looks_up(self):
        for name, target, what in [
            ("comm/local.hpp", "engine/storage.hpp", "comm may not look at engine"),
            ("engine/storage.hpp", "sharded.hpp", "engine may not look at sharded.hpp"),
            ("sharded.hpp", "checkpoint/save.hpp", "sharded.hpp may not look at checkpoint"),
            ("sharded.hpp", "tessera.hpp", "sharded.hpp may not look at tessera.hpp"),
        ]:
            with self.subTest(what):
                self.write(name, header([target]))
                self.assertTrue(any(what in breach for breach in self.breaches()), self.breaches())
                self.write(name, header(SOUND[name]))

    def test_only_the_cuda_door_looks_at_cuda(self):
        self.write("sharded.hpp", header(["cuda/executor.cuh"]))
        self.finds("sharded.hpp may not look at cuda", "a .hpp needs no .cuh")

    def test_cuda_does_not_look_at_the_engine(self):
        self.write("cuda/executor.cuh", header(["engine/storage.hpp"]))
        self.finds("cuda may not look at engine")

    def test_only_what_is_named_after_mpi_looks_at_mpi(self):
        self.write("tessera.hpp", header(["comm/mpi.hpp"]))
        self.finds("<tessera/comm/mpi.hpp>: only what is named after MPI")

    def test_a_circle_is_shown(self):
        self.write("layout/layout.hpp", header(["layout/plan.hpp"]))
        self.finds("a circle: layout/plan.hpp -> layout/layout.hpp -> layout/plan.hpp")

    def test_a_header_that_includes_itself_is_a_circle(self):
        self.write("core/config.hpp", header(["core/config.hpp"]))
        self.finds("a circle: core/config.hpp -> core/config.hpp")

    def test_toolkit_headers_and_macros_stay_out(self):
        toolkit = "#include <cuda_runtime_api.h>\n#  include <nccl.h>\n#include <nvtx3/nvtx3.hpp>\n#include <mpi.h>\n"
        self.write("exec/host.hpp", header([], toolkit + "#ifdef __CUDA_ARCH__\n#endif\n"))
        self.finds(":3: <cuda_runtime_api.h>", ":4: <nccl.h>", ":5: <nvtx3/nvtx3.hpp>", ":6: <mpi.h>",
                   ":7: __CUDA_ARCH__")

    def test_includes_are_spelled_in_full_and_exist(self):
        self.write("exec/host.hpp", header(["exec/gone.hpp"], '#include "math.hpp"\n'))
        self.finds("<tessera/exec/gone.hpp> does not exist", '"math.hpp": headers are included as <tessera/...>')

    def test_each_header_has_a_guard_and_an_opening(self):
        self.write("exec/host.hpp", "#include <tessera/core/math.hpp>\n")
        self.finds("does not open by saying what it is", "no #pragma once")

    def test_a_long_header_is_two_ideas(self):
        self.write("exec/host.hpp", header([], "\n" * arrows.LONGEST))
        self.finds(f"{arrows.LONGEST + 2} lines")

    def test_nothing_unfinished_is_left(self):
        self.write("exec/host.hpp", header([], "// TODO: later\n"))
        self.finds("include/tessera/exec/host.hpp:3: TODO left behind")

    def test_each_header_has_a_mirror(self):
        (self.root / "tests" / "exec" / "host.cpp").unlink()
        self.finds("no test mirrors it: tests/exec/host.cpp")

    def test_strangers_have_no_room(self):
        self.write("misc/things.hpp", header([]))
        self.write("core/notes.txt", header([]))
        (self.root / "tests" / "misc").mkdir()
        (self.root / "tests" / "misc" / "things.cpp").touch()
        (self.root / "tests" / "core" / "notes.cpp").touch()
        self.finds("only .hpp and .cuh", "'misc' is no room of the house")


if __name__ == "__main__":
    unittest.main()
