"""What the lowering can emit is what the runtime's table has, and what the other tests here try."""

from collections.abc import Iterable

import pytest

from mochi_aot.artifacts.schema import Attr, Program
from mochi_aot.compiler.compile import compile_program
from mochi_aot.compiler.lower.ttnn.lowerer import Lowerer, LoweringError
from mochi_aot.compiler.lower.ttnn.program import lower
from mochi_aot.compiler.partition.errors import PlanError
from mochi_aot.compiler.partition.plans import TTNN_FAMILIES
from mochi_aot.runtime.torch.mesh import Mesh
from mochi_aot.runtime.ttnn.context import Context
from mochi_aot.runtime.ttnn.ops import OPS
from mochi_aot.tools.golden.stand_in import stand_in
from mochi_aot.tools.golden.types import ChipMesh
from tests.ttnn_golden.cases import CASES, Signature, signature
from tests.ttnn_golden.lowered_model import DIT_ROLES, GEOMETRY, VIDEO, LoweredModel, built_programs

MESHES = (2, 4), (4, 8)
DTYPES = "bfloat16", "bfloat8_b"
# Rows that are made by functions of their own, and pass on what they know of.
WRITTEN_OUT = {
    "experimental.conv3d",
    "experimental.neighbor_pad_async",
    "transformer.ring_joint_scaled_dot_product_attention",
}


def emitted(programs: Iterable[Program]) -> dict[Signature, dict[str, Attr]]:
    """Each signature, with the attributes of one of its instructions."""
    calls = (instruction for program in programs for instruction in program.instructions)
    return {signature(call.op, call.attrs): call.attrs for call in calls}


@pytest.fixture(scope="module")
def by_choice(bfloat16_checkpoint):
    """By the plans that are chosen, in all dtypes; and the decoder in strips."""
    made = []
    for mesh in MESHES:
        for weights in DTYPES:
            made += [LoweredModel.make(bfloat16_checkpoint, mesh, weights, DIT_ROLES, GEOMETRY, of) for of in DTYPES]
            made += [
                LoweredModel.make(bfloat16_checkpoint, mesh, weights, ["decode"], VIDEO, strip=frames)
                for frames in (None, 1, 2)
            ]
            made += [
                LoweredModel.make(bfloat16_checkpoint, mesh, weights, ["encode"], VIDEO, strip=of) for of in (0, 5)
            ]
    return emitted(low.program for model in made for low in model.programs.values())


@pytest.fixture(scope="module")
def by_any_plan(bfloat16_checkpoint):
    """By every plan that a user can ask for and that fits."""
    built, made = built_programs(bfloat16_checkpoint, VIDEO), []
    families = [(role, plan) for roles, plans in TTNN_FAMILIES.items() for role in roles for plan in plans.values()]
    for role, plan in families:
        for mesh in MESHES:
            try:
                compiled = compile_program(built[role], mesh, plan)
                lowerers = [Lowerer(compiled.program, mesh, dtype, dtype) for dtype in DTYPES]
                made += [lower(lowerer, plan.name, compiled.cost).program for lowerer in lowerers]
            except (PlanError, LoweringError):
                continue
    return emitted(made)


def test_the_programs_that_are_run_have_every_kind_of_instruction(models, bfloat16_checkpoint, by_choice, by_any_plan):
    """Those of test_exact.py on both meshes, with tokens on both axes, and with rounded links."""
    made = [model for mesh in MESHES for model in models(mesh).bundled.values()]
    made.append(LoweredModel.make(bfloat16_checkpoint, (2, 4), "bfloat16", DIT_ROLES, links_dtype="bfloat8_b"))
    made.append(LoweredModel.make(bfloat16_checkpoint, (2, 4), "bfloat16", DIT_ROLES, plan="sp01"))
    tried = emitted(low.program for model in made for low in model.programs.values())
    assert by_choice.keys() | by_any_plan.keys() == tried.keys()


def test_the_cases_of_rows_have_every_kind_of_instruction(by_choice, by_any_plan):
    assert (by_choice | by_any_plan).keys() <= {signature(case.op, case.attrs) for case in CASES}


def test_every_row_is_emitted(by_choice, by_any_plan):
    assert {op for op, _, _ in by_choice.keys() | by_any_plan.keys()} == set(OPS)


@pytest.mark.parametrize("op", sorted(OPS.keys() - WRITTEN_OUT))
def test_a_row_takes_what_is_emitted_and_no_other_attribute(by_choice, op):
    """A softmax may say how exact it is, which the lowering does not say yet."""
    samples = {name: attrs[name] for attrs in by_choice.values() for name in attrs}
    own = [attrs for (of, _, _), attrs in by_choice.items() if of == op]
    known = {name for attrs in own for name in attrs}
    chips = ChipMesh(Mesh(1, 1))
    with stand_in(chips):
        for attrs in own:
            OPS[op](attrs, Context(chips))
            for name in samples.keys() - known - {"kw"}:
                with pytest.raises(ValueError, match=name):
                    OPS[op]({**attrs, name: samples[name]}, Context(chips))
            with pytest.raises(ValueError, match="nothing"):
                OPS[op]({**attrs, "kw": ["nothing"]}, Context(chips))


# What sums many numbers; ttnn's default for most of these is coarser, as docs/ttnn.md shows. Sums over chips are the
# same with any.
SUMS = {"matmul", "mean", "rms_norm", "softmax", "sum", "var", "transformer.scaled_dot_product_attention"} | {
    "experimental.conv3d",
    "experimental.minimal_matmul",
    "experimental.rotary_embedding_llama",
    "transformer.ring_joint_scaled_dot_product_attention",
}


def test_all_that_sums_says_how_exactly_and_nothing_else_does(by_choice, by_any_plan):
    assert {op for op, names, _ in by_choice | by_any_plan if "compute" in names} == SUMS
    assert not {op for op, names, _ in by_choice | by_any_plan if "compute" not in names} & SUMS


def test_products_are_exact_where_a_program_runs_once_a_prompt_or_video(models):
    products = {"experimental.minimal_matmul", "experimental.conv3d", "transformer.scaled_dot_product_attention"}
    seen = {
        (role, str(instruction.attrs["compute"]))
        for model in models((2, 4)).bundled.values()
        for role, low in model.programs.items()
        for instruction in low.program.instructions
        if instruction.op in products
    }
    assert seen == {
        ("encode_text", "hifi4"),
        ("prepare_prompt", "hifi4"),
        ("prepare_steps", "hifi4"),
        ("denoise", "hifi2"),
        ("decode", "hifi2"),
        ("encode", "hifi4"),
    }
