"""Run as a module in a process of its own: what becomes of a small model's programs on meshes of one mocked grid.

`python -m tests.compiler.lower.ttnn.every_mesh_on_mock FOLDER 1x1 2x3 ...`, without meshes all up to 8x8. Prints a line
`answers: {...}`: for each mesh the reason against each program that was not lowered, or that ttnn refused; for none
`{}`.
"""

import json
import sys
from dataclasses import replace
from itertools import product
from pathlib import Path

from mochi_aot.artifacts.roles import ROLES
from mochi_aot.compiler import from_config
from mochi_aot.compiler.checkpoint.presets import BENCH, TINY
from mochi_aot.compiler.from_config import SeededSource, programs_of_config
from mochi_aot.compiler.lower.ttnn.mesh import mesh_settings
from mochi_aot.compiler.programs import build_programs
from mochi_aot.compiler.reference.geometry import Geometry
from mochi_aot.runtime.ttnn.kernel_cache import KernelCache
from mochi_aot.runtime.ttnn.mock import enter_mock, prepare_mock
from mochi_aot.runtime.ttnn.mocked import empty_weights, opened, run_dry

GRID = (8, 8)
# Heads and hidden numbers divide as those of Mochi 1 do: 24 heads of the transformer, powers of two of the others.
DIT = replace(BENCH.dit, layers=1, heads=24, text_width=768, hidden=1024, text_hidden=512)
TEXT = replace(BENCH.text, num_heads=64, num_layers=1, d_ff=1280)
CONFIG = replace(BENCH, dit=DIT, text=TEXT, vae=TINY.vae)
GEOMETRY = Geometry(80, 112, 49)  # latents of 9 x 10 x 14, which few meshes divide


def main(folder: Path, meshes: list[tuple[int, int]]) -> None:
    built = build_programs(CONFIG, GEOMETRY, "bfloat16", SeededSource(CONFIG))
    from_config.build_programs = lambda *_, **__: built  # type: ignore[assignment]  # traced once for all meshes
    enter_mock(prepare_mock(GRID, folder))
    print("answers:", json.dumps({f"{rows}x{columns}": refused((rows, columns), folder) for rows, columns in meshes}))


def refused(mesh: tuple[int, int], folder: Path) -> dict[str, str]:
    made = programs_of_config(CONFIG, GEOMETRY, mesh, "bfloat16", with_encoder=True)
    programs = {role: made.programs[role] for role in ROLES if role in made.programs}
    with opened(mesh, mesh_settings(mesh, programs.values()), KernelCache(folder / "kernels")) as backend:
        reports = run_dry(backend, empty_weights(backend, made.weights), programs, str(GEOMETRY))
    assert {*programs, *made.failures} == {report.role for report in reports} | made.failures.keys()
    return made.failures | {report.role: str(report.refusal) for report in reports if report.refusal is not None}


if __name__ == "__main__":
    given = [(int(rows), int(columns)) for rows, columns in (mesh.split("x") for mesh in sys.argv[2:])]
    main(Path(sys.argv[1]), given or list(product(range(1, 9), repeat=2)))
