"""Tests that arrows.py finds each kind of breach in a small source tree, and none in a correct one."""

import tempfile
import unittest
from pathlib import Path

import arrows

SOUND = {
    "tessera.hpp": ["sharded.hpp", "bootstrap/launch.hpp"],
    "checkpoint.hpp": ["checkpoint/checkpoints.hpp"],
    "checkpoint/checkpoints.hpp": ["sharded.hpp", "core/math.hpp"],
    "cuda.cuh": ["tessera.hpp", "cuda/exec/executor.cuh"],
    "sharded.hpp": ["engine/memory/storage.hpp", "rule/adam.hpp"],
    "core/config.hpp": [],
    "core/math.hpp": ["core/config.hpp"],
    "layout/layout.hpp": ["core/math.hpp"],
    "layout/plan.hpp": ["layout/layout.hpp"],
    "rule/adam.hpp": ["core/math.hpp"],
    "precision/precision.hpp": ["core/math.hpp"],
    "stage/stage.hpp": [],
    "exec/host.hpp": ["core/math.hpp"],
    "timeline/timeline.hpp": ["exec/host.hpp"],
    "comm/local/local.hpp": ["exec/host.hpp", "core/math.hpp"],
    "bootstrap/launch.hpp": ["core/math.hpp"],
    "bootstrap/mpi.hpp": ["core/math.hpp"],
    "engine/kernels/update.hpp": ["rule/adam.hpp"],
    "engine/memory/storage.hpp": ["comm/local/local.hpp", "layout/plan.hpp", "engine/kernels/update.hpp"],
    "engine/step/pass.hpp": ["engine/memory/storage.hpp"],
    "model/step_time.hpp": ["engine/step/pass.hpp"],
    "cuda/exec/executor.cuh": ["exec/host.hpp", "comm/local/local.hpp"],
    "cuda/nccl/mpi.cuh": ["bootstrap/mpi.hpp"],
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
        self.write("cuda/exec/executor.cuh", header(["exec/host.hpp"], "#include <cuda_runtime.h>\n"))
        self.write("bootstrap/mpi.hpp", header(["core/math.hpp"], "#include <mpi.h>\n"))
        self.finds()

    def test_rooms_of_numbers_do_not_see_each_other(self):
        self.write("rule/adam.hpp", header(["layout/layout.hpp"]))
        self.finds("include/tessera/rule/adam.hpp:3: rule may not look at layout")

    def test_the_wings_of_numbers_and_machine_do_not_see_each_other(self):
        for name, target, what in [
            ("comm/local/local.hpp", "layout/plan.hpp", "comm may not look at layout"),
            ("exec/host.hpp", "precision/precision.hpp", "exec may not look at precision"),
            ("bootstrap/launch.hpp", "rule/adam.hpp", "bootstrap may not look at rule"),
            ("layout/plan.hpp", "comm/local/local.hpp", "layout may not look at comm"),
            ("precision/precision.hpp", "exec/host.hpp", "precision may not look at exec"),
        ]:
            with self.subTest(what):
                self.write(name, header([target]))
                self.assertTrue(any(what in breach for breach in self.breaches()), self.breaches())
                self.write(name, header(SOUND[name]))

    def test_core_looks_at_nothing(self):
        self.write("core/math.hpp", header(["stage/stage.hpp"]))
        self.finds("core may not look at stage")

    def test_nobody_looks_up(self):
        for name, target, what in [
            ("comm/local/local.hpp", "engine/memory/storage.hpp", "comm may not look at engine"),
            ("engine/memory/storage.hpp", "sharded.hpp", "engine may not look at sharded.hpp"),
            ("engine/memory/storage.hpp", "model/step_time.hpp", "engine may not look at model"),
            ("sharded.hpp", "tessera.hpp", "sharded.hpp may not look at tessera.hpp"),
        ]:
            with self.subTest(what):
                self.write(name, header([target]))
                self.assertTrue(any(what in breach for breach in self.breaches()), self.breaches())
                self.write(name, header(SOUND[name]))

    def test_engine_rooms_look_down(self):
        self.write("engine/kernels/update.hpp", header(["engine/step/report.hpp"]))
        self.write("engine/step/report.hpp", header([]))
        (self.root / "tests" / "engine" / "step" / "report.cpp").touch()
        self.finds("engine/kernels may not look at engine/step")

    def test_every_header_of_the_engine_lies_in_one_of_its_rooms(self):
        self.write("engine/loose.hpp", header([]))
        (self.root / "tests" / "engine" / "loose.cpp").touch()
        self.finds("include/tessera/engine/loose.hpp:1: lies in none of engine's rooms")

    def test_includes_between_engine_rooms_are_few(self):
        for i in range(arrows.MOST_BETWEEN_ENGINE_ROOMS):
            self.write(f"engine/step/part_{i}.hpp", header(["engine/memory/storage.hpp"]))
            (self.root / "tests" / "engine" / "step" / f"part_{i}.cpp").touch()
        self.finds("12 includes between engine's rooms, 10 at most")

    def test_a_room_that_is_not_there_is_not_known(self):
        (self.root / "include" / "tessera" / "stage" / "stage.hpp").unlink()
        self.finds("there is no room 'stage'")

    def test_only_the_cuda_door_looks_at_cuda(self):
        self.write("sharded.hpp", header(["cuda/exec/executor.cuh"]))
        self.finds("sharded.hpp may not look at cuda", "a .hpp needs no .cuh")

    def test_cuda_does_not_look_at_the_engine(self):
        self.write("cuda/exec/executor.cuh", header(["engine/memory/storage.hpp"]))
        self.finds("cuda may not look at engine")

    def test_only_what_is_named_after_mpi_looks_at_mpi(self):
        self.write("tessera.hpp", header(["bootstrap/mpi.hpp"]))
        self.finds("<tessera/bootstrap/mpi.hpp>: only what is named after MPI")

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
