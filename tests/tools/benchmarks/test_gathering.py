"""TT-DiT's scheme is a working program: it gives what the model gives, and gathers what it is said to gather."""

import itertools
import math
from functools import partial

import numpy as np
import pytest

from mochi_aot.compiler.compile import optimised
from mochi_aot.compiler.ir.interpreter import run
from mochi_aot.compiler.ir.program import Checkpoint, Program
from mochi_aot.compiler.lower.torch import lower
from mochi_aot.compiler.lower.weights import local_tensor, weight_name
from mochi_aot.compiler.partition.cost import bytes_sent, cost_of
from mochi_aot.compiler.partition.mesh import Mesh
from mochi_aot.compiler.partition.plans import DECODER_PLANS, transformer_plan
from mochi_aot.compiler.partition.spmd import partition
from mochi_aot.compiler.reference.geometry import Geometry
from mochi_aot.runtime.torch import TorchBackend
from mochi_aot.tools.benchmarks.gathering import DECODERS, GatheringScheme, decoder_scheme, transformer_scheme
from mochi_aot.tools.benchmarks.traffic import denoise_program
from tests.compiler.tiny import CONFIG, GEOMETRY, SHAPES, Weights, inputs, parameter, programs

MESHES: list[Mesh] = [(2, 4), (4, 2), (2, 2), (1, 4)]
TOLERANCE = 2e-5


@pytest.fixture(scope="module")
def one_prompt() -> Program:
    """Its folded tables come from the same seeded weights as everything else here."""
    return denoise_program(CONFIG, GEOMETRY, "float32")


def placed(program: Program, mesh: Mesh, scheme: GatheringScheme) -> Program:
    return optimised(scheme.partition(program, mesh))


def on_torch(program: Program, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Outputs of a partitioned program on the torch target's simulated mesh."""
    assert program.mesh is not None
    lowered, backend = lower(program, "plan", cost_of(program)), TorchBackend(*program.mesh)
    for param in program.params:
        devices = itertools.product(*map(range, program.mesh))
        pieces = [local_tensor(param.recipe, param.value.type, device, Weights()) for device in devices]
        backend._weights._makers[weight_name(param)] = partial(list, pieces)
    values = {item.name: backend.upload(arrays[item.name], item.spec) for item in lowered.inputs}
    outputs = backend.load_program(lowered).run(values)
    return {item.name: backend.fetch(outputs[item.name], item.spec) for item in lowered.outputs}


def assert_close(actual: np.ndarray, expected: np.ndarray) -> None:
    np.testing.assert_allclose(actual, expected, rtol=0, atol=TOLERANCE * np.abs(expected).max())


@pytest.mark.parametrize("sequence_axis", [0, 1])
@pytest.mark.parametrize("mesh", MESHES, ids=str)
def test_the_step_gives_the_models_velocity(one_prompt: Program, mesh: Mesh, sequence_axis: int) -> None:
    arrays = inputs(one_prompt)
    expected = run(one_prompt, arrays, parameter)["velocity"]
    program = placed(one_prompt, mesh, transformer_scheme(sequence_axis))
    assert_close(run(program, arrays, parameter, poison=7.0)["velocity"], expected)
    assert_close(on_torch(program, arrays)["velocity"], expected)


@pytest.mark.parametrize(("mesh", "name"), [((2, 2), "h0w1"), ((4, 2), "h0t1"), ((1, 2), "h0t1")])
def test_the_decoder_gives_the_models_frames(mesh: Mesh, name: str) -> None:
    source = programs(Geometry(32, 32, 25))["decode"]
    arrays = inputs(source)
    expected = run(source, arrays, parameter)["frames"].astype(int)
    program = placed(source, mesh, decoder_scheme(name))
    assert not any(op.opcode == "group_norm_stats" for op in program.ops)
    for frames in (run(program, arrays, parameter, poison=7.0)["frames"], on_torch(program, arrays)["frames"]):
        assert np.abs(frames.astype(int) - expected).max() <= 1


def test_each_weight_of_the_blocks_is_gathered_once(one_prompt: Program) -> None:
    """Of a matrix cut in 2 x 4 a chip sends its eighth to the one chip that its sequence axis has besides."""
    program = placed(one_prompt, (2, 4), transformer_scheme(0))
    params = {param.value: param for param in program.params}
    gathers = [op for op in program.ops if op.opcode == "all_gather" and op.operands[0] in params]
    matrices = [name for name in SHAPES if name.startswith("dit.blocks.") and len(SHAPES[name]) == 2]
    recipes = [params[op.operands[0]].recipe for op in gathers]
    assert sorted(r.name for r in recipes if isinstance(r, Checkpoint)) == sorted(matrices)
    elements = sum(math.prod(SHAPES[name]) for name in matrices)
    assert sum(bytes_sent(op, (2, 4)) for op in gathers) == elements * 4 // 8


def test_all_else_is_sent_as_under_this_compilers_plan(one_prompt: Program) -> None:
    """But for the modulations that the tensor axis gathers in each step."""
    theirs = cost_of(placed(one_prompt, (2, 4), transformer_scheme(0))).collectives
    ours = cost_of(optimised(partition(one_prompt, (2, 4), transformer_plan(0)))).collectives
    assert {k: n for k, n in theirs.items() if k != "all_gather"} == {
        k: n for k, n in ours.items() if k != "all_gather"
    }


def test_norms_gather_whole_activations() -> None:
    source = programs(Geometry(32, 32, 25))["decode"]
    program = placed(source, (2, 1), decoder_scheme("h0w1"))
    norms = [op for op in program.ops if op.opcode == "group_norm"]
    gathers = [op for op in program.ops if op.opcode == "all_gather"]
    assert len(norms) == len(gathers) == sum(op.opcode == "group_norm" for op in source.ops)
    sent = sum(bytes_sent(op, (2, 1)) for op in gathers)
    assert sent == sum(norm.operands[0].type.nbytes for norm in norms) // 2
    ours = cost_of(optimised(partition(source, (2, 1), DECODER_PLANS["h0w1"])))
    halos = cost_of(program).collective_bytes - sent
    assert halos < ours.collective_bytes < halos + sent // 10  # the statistics are little


def test_the_published_decoders_have_plans() -> None:
    assert all(decoder_scheme(plan).whole_norms for _, plan in DECODERS.values())
