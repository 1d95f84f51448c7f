"""The whole model's programs on every mesh under every plan: results equal those of one device."""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch

from mochi_aot.compiler.ir.interpreter import run
from mochi_aot.compiler.ir.program import Program
from mochi_aot.compiler.ir.verify import verify
from mochi_aot.compiler.partition.errors import PlanError
from mochi_aot.compiler.partition.gathered import gather_at_use
from mochi_aot.compiler.partition.mesh import Mesh
from mochi_aot.compiler.partition.plan import Plan
from mochi_aot.compiler.partition.plans import DECODER_PLANS, FAMILIES
from mochi_aot.compiler.partition.spmd import partition
from mochi_aot.compiler.passes.merge_linears import merge_linears
from mochi_aot.compiler.passes.simplify import simplify
from mochi_aot.compiler.passes.strips import in_strips
from mochi_aot.compiler.reference.geometry import Geometry
from mochi_aot.compiler.reference.traced_modules import TRACED_MODULES
from mochi_aot.compiler.trace.export import trace
from tests.compiler.numbers import Arrays
from tests.compiler.tiny import CONFIG, GEOMETRY, inputs, parameter, programs

MESHES: list[Mesh] = [(1, 1), (1, 2), (2, 2), (2, 4), (1, 8), (4, 8)]
# 9 latent frames, of which eight devices hold two each and the last ones none; 2 rows, fewer than devices.
LONG = Geometry(height=16, width=32, frames=49)
PLANS = [(role, name) for roles, plans in FAMILIES.items() for role in roles for name in plans]
# Sums of some hundred products, in another order, through a few dozen layers.
TOLERANCE = 2e-5


def mesh_name(mesh: Mesh) -> str:
    return f"{mesh[0]}x{mesh[1]}"


def plan_of(role: str, name: str) -> Plan:
    return next(plans[name] for roles, plans in FAMILIES.items() if role in roles)


@cache
def expected(role: str, geometry: Geometry, seed: int) -> Arrays:
    program = programs(geometry)[role]
    return run(program, inputs(program, seed), parameter)


def check(role: str, name: str, mesh: Mesh, geometry: Geometry, seed: int = 0) -> Program:
    """Partitions as a compile does, runs with poisoned padding and compares."""
    source = programs(geometry)[role]
    program = partition(source, mesh, plan_of(role, name))
    verify(program)
    program = gather_at_use(simplify(merge_linears(simplify(program))), plan_of(role, name))
    verify(program)
    actual = run(program, inputs(source, seed), parameter, poison=7.0)
    for output, array in expected(role, geometry, seed).items():
        assert actual[output].dtype == array.dtype
        if array.dtype == np.uint8:
            # A value within rounding of a half goes either way.
            difference = np.abs(actual[output].astype(int) - array.astype(int))
            assert difference.max() <= 1
            assert difference.mean() < 1e-3
        elif output == "nonfinite":  # a device counts what it holds
            assert array.shape == (1, 1) and actual[output].sum() == array.sum() == 0
        else:
            scale = np.abs(array.astype(np.float32)).max()
            np.testing.assert_allclose(actual[output], array, rtol=0, atol=TOLERANCE * scale)
    return program


def time_pieces(name: str, mesh: Mesh) -> int:
    """Into how many a plan of the decoder cuts time."""
    return mesh[int(name[name.index("t") + 1])] if "t" in name else 1


def rows_do_not_divide(role: str, name: str, mesh: Mesh) -> bool:
    """Whether a plan cuts the two rows of guidance over more devices."""
    return role == "denoise" and name.startswith("gp") and mesh[int(name[2])] > 2


@pytest.mark.parametrize("mesh", MESHES, ids=mesh_name)
@pytest.mark.parametrize(("role", "name"), PLANS)
def test_on_every_mesh_under_every_plan(role: str, name: str, mesh: Mesh) -> None:
    if rows_do_not_divide(role, name, mesh):
        with pytest.raises(PlanError, match=r"dimension 0 of \[2, .* does not divide by the \d devices of mesh axis"):
            check(role, name, mesh, GEOMETRY)
        return
    if role == "encode_text" and name == "tp01" and mesh == (4, 8):
        with pytest.raises(PlanError, match=r"wi_0.weight \[24, 16\] leaves 6, which does not divide by the 8 devices"):
            check(role, name, mesh, GEOMETRY)
    elif role == "decode" and time_pieces(name, mesh) > 2:
        with pytest.raises(PlanError, match="a piece of 1 along time is shorter than the halo of 2"):
            check(role, name, mesh, GEOMETRY)
    else:
        check(role, name, mesh, GEOMETRY)


@pytest.mark.parametrize("mesh", [(2, 2), (2, 4), (1, 8)], ids=mesh_name)
@pytest.mark.parametrize("name", DECODER_PLANS)
def test_decode_a_longer_video(name: str, mesh: Mesh) -> None:
    check("decode", name, mesh, LONG)


@pytest.mark.parametrize("latent_frames", [1, 2, 4, 5, 7])
@pytest.mark.parametrize("mesh", [(1, 2), (2, 1), (3, 2), (2, 3)], ids=mesh_name)
@pytest.mark.parametrize("name", ["t0h1", "w0t1"])
def test_decode_videos_that_fill_the_pieces_of_time_or_not(name: str, mesh: Mesh, latent_frames: int) -> None:
    """The frames that a stage drops shift all others by less than a piece: the last piece has padding for them."""
    pieces = time_pieces(name, mesh)
    geometry = Geometry(height=16, width=32, frames=6 * (latent_frames - 1) + 1)
    if pieces > 1 and -(-latent_frames // pieces) < 2:
        with pytest.raises(PlanError, match="a piece of 1 along time is shorter than the halo of 2"):
            check("decode", name, mesh, geometry)
    else:
        check("decode", name, mesh, geometry)


@pytest.mark.parametrize("strip", [1, 2, 3, 5])
@pytest.mark.parametrize(("name", "mesh"), [("h0w1", (2, 2)), ("w0h1", (2, 4))])
def test_decode_in_strips_on_a_mesh(name: str, mesh: Mesh, strip: int) -> None:
    source = programs(LONG)["decode"]
    program = simplify(partition(in_strips(source, "latent_video", strip), mesh, plan_of("decode", name)))
    verify(program)
    actual = run(program, inputs(source), parameter, poison=7.0)["frames"]
    difference = np.abs(actual.astype(int) - expected("decode", LONG, 0)["frames"])
    assert difference.max() <= 1 and difference.mean() < 1e-3  # as in check


@pytest.mark.slow
@pytest.mark.parametrize("mesh", [(4, 8), (8, 4)], ids=mesh_name)
@pytest.mark.parametrize(("role", "name"), [case for case in PLANS if case[0] in ("denoise", "decode", "encode")])
def test_a_longer_video_on_many_devices(role: str, name: str, mesh: Mesh) -> None:
    if rows_do_not_divide(role, name, mesh):
        pytest.skip("the rows of guidance are two, and no axis here has two devices")
    check(role, name, mesh, LONG)


@pytest.mark.parametrize(
    ("name", "mesh"), [("sp1tp0", (2, 4)), ("sp0tp1", (2, 4)), ("sp1tp0", (1, 8)), ("gp0sp1fs0", (2, 4))]
)
@pytest.mark.parametrize("tokens", [1, 10])
def test_denoise_with_a_prompt_of_one_token_and_of_all(name: str, mesh: Mesh, tokens: int) -> None:
    """The mask reaches the denoising program from the prompt's."""
    source = programs()["denoise"]
    arrays = inputs(source, seed=tokens)
    for item in source.inputs:
        if item.value.type.dtype == "bool":
            # The negative prompt, which comes first, is empty.
            positions = np.arange(item.value.type.shape[-1])
            arrays[item.value.name] = np.stack([np.zeros_like(positions, np.bool_), positions < tokens])
    program = simplify(partition(source, mesh, plan_of("denoise", name)))
    whole = run(source, arrays, parameter)["latents"]
    latents = run(program, arrays, parameter, poison=7.0)["latents"]
    np.testing.assert_allclose(latents, whole, rtol=0, atol=TOLERANCE * np.abs(whole).max())


@pytest.mark.parametrize("role", ["denoise", "decode", "encode_text"])
def test_in_bfloat16_results_stay_close(role: str) -> None:
    """Partial sums are rounded before they are added up, 8 bits each."""
    source = programs(dtype="bfloat16")[role]
    name = {"denoise": "sp1tp0", "decode": "h0w1", "encode_text": "tp01"}[role]
    program = simplify(merge_linears(simplify(partition(source, (2, 4), plan_of(role, name)))))
    verify(program)
    arrays = inputs(source)
    (whole, *_), (actual, *_) = (run(p, arrays, parameter).values() for p in (source, program))
    assert np.corrcoef(whole.ravel().astype(float), actual.ravel().astype(float))[0, 1] > 0.999


def collectives(role: str, name: str, mesh: Mesh) -> dict[str, int]:
    program = check(role, name, mesh, GEOMETRY)
    counts: dict[str, int] = {}
    for op in program.ops:
        if op.opcode in ("all_reduce", "all_gather", "all_to_all", "reduce_scatter", "ring_joint_attention"):
            counts[op.opcode] = counts.get(op.opcode, 0) + 1
    return counts


def test_the_denoising_step_sends_no_more_than_it_must() -> None:
    """Two layers: a ring each; of the visual stream two sums each, of the text one layer's two; velocities once."""
    assert collectives("denoise", "sp1tp0", (2, 4)) == {"ring_joint_attention": 2, "all_reduce": 6, "all_gather": 1}
    assert collectives("denoise", "sp1tp0", (1, 4)) == {"ring_joint_attention": 2, "all_gather": 1}
    assert collectives("denoise", "sp0tp1", (1, 4)) == {"all_reduce": 6}


def test_the_text_encoder_sums_twice_a_layer() -> None:
    assert collectives("encode_text", "tp1", (1, 4)) == {"all_reduce": 4}


def test_weights_of_linears_that_read_the_same_value_are_joined() -> None:
    """Of a block: q, k, v and gate, up of each stream; the last block's text has only the former."""
    program = check("denoise", "sp1tp0", (2, 2), GEOMETRY)
    linears = [op for op in program.ops if op.opcode == "linear"]
    # tokens and velocities; the first block's qkv, proj, gate-up and down of two streams; the last's without text's
    assert len(linears) == 2 + 8 + 5


def test_heads_that_do_not_divide_are_refused() -> None:
    """Six heads of width 4: 24 columns divide by four devices, heads do not."""
    config = replace(CONFIG, dit=replace(CONFIG.dit, heads=6))
    (unit,) = (unit for unit in TRACED_MODULES if unit.name == "denoise")
    program = trace("denoise", lambda: unit.build(config, GEOMETRY, torch.float32), unit.rates, *unit.outputs)
    partition(program, (4, 1), plan_of("denoise", "sp0tp1"))
    partition(program, (1, 2), plan_of("denoise", "sp0tp1"))
    message = r"plan sp0tp1, program denoise, reference/dit.py:\d+: 24 splits into 6 x 4, .* 6 does not divide by"
    with pytest.raises(PlanError, match=message):
        partition(program, (1, 4), plan_of("denoise", "sp0tp1"))
