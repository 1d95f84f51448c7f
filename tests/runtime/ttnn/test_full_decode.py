"""The published decoder at full size, lowered for 4 x 8 chips: ttnn accepts every op, and memory is enough."""

from dataclasses import replace

import numpy as np
import pytest

from tests.runtime.ttnn.on_mesh import COLUMNS, ROWS, backend, used

GEOMETRY = (480, 848, 163)
# Of 12.8 GB: three values of 0.63 GB, weights of 0.74 GB, and little else.
MOST_BYTES = 2.8e9
BANKS = 12


@pytest.mark.slow
@pytest.mark.mesh
def test_every_op_is_accepted() -> None:
    import ttnn

    from mochi_aot.runtime.ttnn.context import DTYPES, LAYOUTS

    lowerer, program = _lowered()
    mesh = backend()
    before = used()
    for name, (weight, tensor) in lowerer.weights.items():
        shape, dtype, layout = list(tensor.shape), DTYPES[weight.dtype], LAYOUTS[weight.layout]
        mesh._weights[name] = ttnn.empty(shape, dtype=dtype, layout=layout, device=mesh.mesh)
    (latents,) = program.inputs
    peak = 0

    def watch(_: int, results: list[ttnn.Tensor]) -> None:
        nonlocal peak
        view = ttnn.get_memory_view(mesh.mesh, ttnn.BufferType.DRAM)
        peak = max(peak, int(view.total_bytes_allocated_per_bank) - before)

    values = {"latents": mesh.upload(np.zeros(latents.spec.shape, np.float32), latents.spec)}
    frames = mesh.load_program(program).run(values, watch)["frames"]
    height, width, count = GEOMETRY
    assert mesh.fetch(frames, program.outputs[0].spec).shape == (count, height, width * 3)
    assert peak * BANKS < MOST_BYTES


def _lowered():
    """The lowerer, which knows the weights' shapes, and the program."""
    import torch

    from mochi_aot.compiler.checkpoint.naming import parameter_shapes
    from mochi_aot.compiler.checkpoint.presets import TINY
    from mochi_aot.compiler.lower.ttnn.lowerer import Lowerer
    from mochi_aot.compiler.lower.ttnn.program import lower
    from mochi_aot.compiler.partition.cost import cost_of
    from mochi_aot.compiler.partition.plans import DECODER_PLANS
    from mochi_aot.compiler.partition.spmd import partition
    from mochi_aot.compiler.passes.simplify import simplify
    from mochi_aot.compiler.programs import build_programs
    from mochi_aot.compiler.reference.config import VAEConfig
    from mochi_aot.compiler.reference.geometry import Geometry

    config = replace(TINY, vae=VAEConfig())
    shapes = parameter_shapes(config)

    class Source:
        def read(self, name: str, index: tuple[slice, ...] = ()) -> torch.Tensor:
            return torch.zeros(shapes[name])[index]

    program = build_programs(config, Geometry(*GEOMETRY), "bfloat16", Source())["decode"]
    placed = simplify(partition(program, (ROWS, COLUMNS), DECODER_PLANS["h0t1"]))
    lowerer = Lowerer(placed, (ROWS, COLUMNS), "bfloat16")
    return lowerer, lower(lowerer, "h0t1", cost_of(placed)).program
