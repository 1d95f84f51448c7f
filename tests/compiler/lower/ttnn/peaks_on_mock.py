"""Run as a module in a process of its own: the DRAM peaks of a small model's programs, run dry on a mocked mesh.

`python -m tests.compiler.lower.ttnn.peaks_on_mock ROWS COLUMNS PLANS DTYPE`, with the plans' names and the dtype of the
weights. Prints a line `peaks: {...}`: for each program what the allocators gave out, what is modelled, and the refusal.
"""

import json
import sys
from dataclasses import replace

from mochi_aot.compiler.checkpoint.presets import BENCH, TINY
from mochi_aot.compiler.compile import compile_program
from mochi_aot.compiler.from_config import SeededSource
from mochi_aot.compiler.lower.ttnn.chip_constants import machine_of
from mochi_aot.compiler.lower.ttnn.dry_run import local_weight, mocked_mesh
from mochi_aot.compiler.lower.ttnn.held import peak_bytes
from mochi_aot.compiler.lower.ttnn.lowerer import Lowerer
from mochi_aot.compiler.lower.ttnn.mesh import mesh_settings
from mochi_aot.compiler.lower.ttnn.program import Lowered, lower
from mochi_aot.compiler.lower.ttnn.target import TtnnTarget
from mochi_aot.compiler.partition.plans import TTNN_FAMILIES
from mochi_aot.compiler.programs import build_programs
from mochi_aot.compiler.reference.geometry import Geometry

CONFIG = replace(BENCH, dit=replace(BENCH.dit, layers=2), text=replace(BENCH.text, num_layers=2), vae=TINY.vae)
GEOMETRY = Geometry(128, 128, 13)


def main(mesh: tuple[int, int], names: list[str], weights_dtype: str) -> None:
    low = lowered(mesh, names, weights_dtype)
    programs = {role: made.program for role, made in low.items()}
    weights = {weight.name: local_weight(weight) for made in low.values() for weight in made.weights}
    with mocked_mesh(mesh) as mocked:
        reports = mocked.run(programs, weights, mesh_settings(mesh, programs.values()), "small")
    modelled = {role: peak_bytes(made.program, made.tensors, machine_of(mesh)) for role, made in low.items()}
    refusals = {report.role: report.refusal and report.refusal.reason for report in reports}
    peaks = {report.role: [report.peak_bytes, modelled[report.role], refusals[report.role]] for report in reports}
    print("peaks:", json.dumps(peaks))


def lowered(mesh: tuple[int, int], names: list[str], weights_dtype: str) -> dict[str, Lowered]:
    """Programs by role, under the plans of these names; those that none is for are left out."""
    built = build_programs(CONFIG, GEOMETRY, "bfloat16", SeededSource(CONFIG))
    target, low = TtnnTarget(weights_dtype), {}
    for roles, family in TTNN_FAMILIES.items():
        for plan in (family[name] for name in names if name in family):
            for role in roles:
                made = compile_program(built[role], mesh, plan, target)
                low[role] = lower(Lowerer(made.program, mesh, weights_dtype), plan.name, made.cost)
    return low


if __name__ == "__main__":
    main((int(sys.argv[1]), int(sys.argv[2])), sys.argv[3].split(","), sys.argv[4])
