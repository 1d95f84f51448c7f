"""The plans' patterns against the model's real parameter names."""

from fnmatch import fnmatchcase

import pytest

from mochi_aot.compiler.partition.plan import Plan
from mochi_aot.compiler.partition.plans import (
    DECODER_PLANS,
    ENCODER_PLANS,
    FAMILIES,
    TEXT_PLANS,
    TRANSFORMER_PLANS,
    VIDEO_DIMS,
)
from tests.compiler.tiny import SHAPES

PLANS = [plan for plans in FAMILIES.values() for plan in plans.values()]
TENSOR_PLANS = [*TRANSFORMER_PLANS.values(), *TEXT_PLANS.values()]
MEGATRON = [plan for name, plan in TRANSFORMER_PLANS.items() if "tp" in name]
GUIDANCE = [plan for name, plan in TRANSFORMER_PLANS.items() if name.startswith("gp")]


def cut_dims(plan: Plan, name: str) -> list[tuple[int, int]]:
    """(axis, dim) of each cut of a parameter."""
    return [(cut.axis, cut.dim) for pattern, cut in plan.params if fnmatchcase(name, pattern)]


def test_names() -> None:
    guidance = ["gp0sp1", "gp1sp0", "gp0sp1fs0", "gp1sp0fs1"]
    assert list(TRANSFORMER_PLANS) == ["sp1tp0", "sp0tp1", *guidance, "sp01", "sp1", "sp0"]
    assert list(TEXT_PLANS) == ["tp0", "tp1", "tp01", "tpnone"]
    on_one_axis = ["t0", "t1", "h0", "h1", "w0", "w1"]
    assert list(DECODER_PLANS) == ["h0w1", "w0h1", "t0h1", "t0w1", "h0t1", "w0t1", *on_one_axis, "whole"]
    assert list(ENCODER_PLANS) == ["h0w1", "w0h1"]
    for plans in FAMILIES.values():
        assert all(plan.name == name for name, plan in plans.items())


def test_every_program_has_plans_of_one_family() -> None:
    roles = [role for family in FAMILIES for role in family]
    assert sorted(roles) == ["decode", "denoise", "encode", "encode_text", "prepare_prompt", "prepare_steps"]


@pytest.mark.parametrize("plan", TENSOR_PLANS, ids=lambda plan: plan.name)
def test_every_pattern_matches_some_parameter(plan: Plan) -> None:
    for pattern, _ in (*plan.params, *plan.gathered):
        assert any(fnmatchcase(name, pattern) for name in SHAPES), pattern


@pytest.mark.parametrize("plan", TENSOR_PLANS, ids=lambda plan: plan.name)
def test_a_parameter_is_cut_once_by_an_axis(plan: Plan) -> None:
    for name in SHAPES:
        axes = [axis for axis, _ in cut_dims(plan, name)]
        assert len(axes) == len(set(axes)), name


@pytest.mark.parametrize("plan", MEGATRON, ids=lambda plan: plan.name)
def test_the_transformer_is_cut_by_heads_and_hidden_units(plan: Plan) -> None:
    axis = int(plan.name[-1])
    block = "dit.blocks.0"
    outputs = [f"{block}.attn.{part}_{stream}.weight" for part in "qkv" for stream in "xy"]
    outputs += [f"{block}.mlp_{stream}.{part}.weight" for part in ("gate", "up") for stream in "xy"]
    inputs = [f"{block}.attn.proj_{s}.weight" for s in "xy"] + [f"{block}.mlp_{s}.down.weight" for s in "xy"]
    assert all(cut_dims(plan, name) == [(axis, 0)] for name in outputs)
    assert all(cut_dims(plan, name) == [(axis, 1)] for name in inputs)
    cut = {name for name in SHAPES if cut_dims(plan, name)}
    assert not [name for name in cut if "norm" in name or name.endswith(".bias") or not name.startswith(block[:10])]


def test_tokens_on_both_axes_leave_the_visual_weights_whole() -> None:
    plan = TRANSFORMER_PLANS["sp01"]
    assert [(cut.axis, cut.dim) for cut in plan.values["tokens"]] == [(0, 1), (1, 1)]
    cut = {name for name in SHAPES if cut_dims(plan, name) and ".mod_" not in name}
    assert cut == {name for name in SHAPES if cut_dims(TRANSFORMER_PLANS["sp0tp1"], name) and "_y." in name} - {
        name for name in SHAPES if ".mod_" in name
    }


@pytest.mark.parametrize("plan", GUIDANCE, ids=lambda plan: plan.name)
def test_the_rows_of_guidance_are_cut_by_one_axis_and_no_product_is(plan: Plan) -> None:
    rows, sequence = int(plan.name[2]), int(plan.name[5])
    assert {rows, sequence} == {0, 1}
    assert {(cut.axis, cut.dim) for cut in plan.values["captioned_tokens"]} == {(rows, 0), (sequence, 1)}
    assert not [name for name in SHAPES if cut_dims(plan, name) and ".mod_" not in name]
    assert all(cut.axis == rows and cut.dim == 1 for _, cut in plan.gathered)
    assert bool(plan.gathered) == plan.name.endswith(f"fs{rows}")


@pytest.mark.parametrize("plan", MEGATRON, ids=lambda plan: plan.name)
def test_the_sequence_is_cut_by_the_other_axis(plan: Plan) -> None:
    sequence, tensor = int(plan.name[2]), int(plan.name[-1])
    assert {sequence, tensor} == {0, 1}
    assert [(cut.axis, cut.dim) for cut in plan.values["tokens"]] == [(sequence, 1)]
    assert plan.values["velocity_tokens"] == ()


@pytest.mark.parametrize("plan", TEXT_PLANS.values(), ids=lambda plan: plan.name)
def test_the_text_encoder_is_cut_along_the_axes_that_the_plan_names(plan: Plan) -> None:
    axes = [int(axis) for axis in plan.name.removeprefix("tp").removeprefix("none")]
    attention, mlp = (f"text.encoder.block.1.layer.{i}" for i in range(2))
    assert cut_dims(plan, f"{attention}.SelfAttention.q.weight") == [(axis, 0) for axis in axes]
    assert cut_dims(plan, f"{attention}.SelfAttention.o.weight") == [(axis, 1) for axis in axes]
    assert cut_dims(plan, f"{mlp}.DenseReluDense.wi_1.weight") == [(axis, 0) for axis in axes]
    assert cut_dims(plan, f"{mlp}.DenseReluDense.wo.weight") == [(axis, 1) for axis in axes]
    assert cut_dims(plan, "text.shared.weight") == []


@pytest.mark.parametrize("plan", [*DECODER_PLANS.values(), *ENCODER_PLANS.values()], ids=lambda plan: plan.name)
def test_the_video_is_cut_as_the_name_says(plan: Plan) -> None:
    (cuts,) = plan.values.values()
    name = "".join(f"{letter}{cut.axis}" for cut in cuts for letter, dim in VIDEO_DIMS.items() if dim == cut.dim)
    assert (name or "whole") == plan.name
    assert not plan.params


def test_plans_of_last_resort_leave_an_axis_uncut() -> None:
    resorts = {name for plans in FAMILIES.values() for name, plan in plans.items() if plan.last_resort}
    assert resorts == {"sp0", "sp1", "tpnone", "t0", "t1", "h0", "h1", "w0", "w1", "whole"}
    for plans in FAMILIES.values():
        for plan in plans.values():
            cuts = [cut for _, cut in plan.params] + [cut for cuts in plan.values.values() for cut in cuts]
            assert len({cut.axis for cut in cuts}) < 2 or not plan.last_resort
