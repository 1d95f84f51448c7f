"""Runs the programs of a small model dry on a mocked mesh and prints, for each, the DRAM peak beside the modelled one.

In a process of its own: ttnn reads where to find the mesh when it is imported. Arguments: rows, columns, plan, weights'
dtype.
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
from mochi_aot.compiler.lower.ttnn.program import lower
from mochi_aot.compiler.lower.ttnn.target import TtnnTarget
from mochi_aot.compiler.partition.plans import TTNN_FAMILIES
from mochi_aot.compiler.programs import build_programs
from mochi_aot.compiler.reference.geometry import Geometry

CONFIG = replace(BENCH, dit=replace(BENCH.dit, layers=2), text=replace(BENCH.text, num_layers=2), vae=TINY.vae)
GEOMETRY = Geometry(128, 128, 13)


def main(rows: str, columns: str, names: str, weights_dtype: str) -> None:
    mesh = (int(rows), int(columns))
    built = build_programs(CONFIG, GEOMETRY, "bfloat16", SeededSource(CONFIG))
    target = TtnnTarget(weights_dtype)
    plans = {
        role: family[name]
        for roles, family in TTNN_FAMILIES.items()
        for role in roles
        for name in names.split(",")
        if name in family
    }
    low = {}
    for role, plan in plans.items():
        made = compile_program(built[role], mesh, plan, target)
        low[role] = lower(Lowerer(made.program, mesh, weights_dtype), plan.name, made.cost)
    programs = {role: lowered.program for role, lowered in low.items()}
    weights = {weight.name: local_weight(weight) for lowered in low.values() for weight in lowered.weights}
    with mocked_mesh(mesh) as mocked:
        reports = mocked.run(programs, weights, mesh_settings(mesh, programs.values()), "small")
        modelled = {
            role: peak_bytes(lowered.program, lowered.tensors, machine_of(mesh)) for role, lowered in low.items()
        }
    print(json.dumps({r.role: [r.peak_bytes, modelled[r.role], r.weight_bytes, str(r.refusal)] for r in reports}))


if __name__ == "__main__":
    main(*sys.argv[1:])
