"""Choosing plans: by name, and by the least estimated time of those that work."""

import pytest

from mochi_aot.compiler.ir.program import Program
from mochi_aot.compiler.partition.choose import (
    FLOPS_PER_SECOND,
    LINK_BYTES_PER_SECOND,
    RUNS,
    SECONDS_PER_COLLECTIVE,
    choose_plans,
    estimated_seconds,
    parse_plan,
    seconds,
)
from mochi_aot.compiler.partition.cost import Cost
from mochi_aot.compiler.partition.errors import PlanError
from mochi_aot.compiler.partition.plans import DECODER_PLANS, FAMILIES, TEXT_PLANS, TRANSFORMER_PLANS
from mochi_aot.compiler.partition.spmd import partition
from tests.compiler.tiny import programs

MESHES = [(1, 1), (1, 2), (2, 2), (2, 4), (1, 8), (4, 8)]


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("auto", ()),
        ("sp1tp0", ("sp1tp0",)),
        ("sp1tp0,h0w1", ("sp1tp0", "h0w1")),
        (" tp01 , t0h1 ", ("tp01", "t0h1")),
        ("auto,tp0", ("tp0",)),
    ],
)
def test_names_of_plans(text: str, names: tuple[str, ...]) -> None:
    assert parse_plan(text) == names


@pytest.mark.parametrize("text", ["", "sp2tp0", "sp1tp0,", "Auto", "sp1tp0;h0w1"])
def test_unknown_names_are_answered_with_the_known_ones(text: str) -> None:
    with pytest.raises(PlanError, match=r"there is no plan '.*'; the plans are auto, h0t1, h0w1, .*, w0h1, w0t1$"):
        parse_plan(text)


@pytest.mark.parametrize("mesh", MESHES, ids=lambda mesh: f"{mesh[0]}x{mesh[1]}")
def test_every_program_gets_a_plan_that_works(mesh: tuple[int, int]) -> None:
    plans = choose_plans([programs()], mesh, ())
    assert set(plans) == set(programs())
    for role, program in programs().items():
        partition(program, mesh, plans[role])


@pytest.mark.parametrize("mesh", MESHES, ids=lambda mesh: f"{mesh[0]}x{mesh[1]}")
def test_none_that_works_would_take_less_time(mesh: tuple[int, int]) -> None:
    chosen = choose_plans([programs()], mesh, ())
    for roles, plans in FAMILIES.items():
        times = {}
        for name, plan in plans.items():
            try:
                times[name] = sum(estimated_seconds(programs()[role], mesh, plan) for role in roles)
            except PlanError:
                continue
        assert times[chosen[roles[0]].name] == min(times.values())


def test_programs_that_share_weights_share_a_plan() -> None:
    plans = choose_plans([programs()], (2, 4), ())
    assert len({plans[role].name for role in ("prepare_prompt", "prepare_steps", "denoise")}) == 1


@pytest.mark.parametrize("name", ["sp1tp0", "sp0tp1"])
def test_a_named_plan_is_taken_and_the_others_choose(name: str) -> None:
    plans = choose_plans([programs()], (2, 4), (name,))
    assert plans["denoise"] is TRANSFORMER_PLANS[name]
    assert plans["decode"].name in DECODER_PLANS
    assert plans["encode_text"].name in TEXT_PLANS


def test_a_name_that_both_directions_of_the_vae_have_is_for_both() -> None:
    plans = choose_plans([programs()], (2, 2), ("w0h1",))
    assert (plans["decode"].name, plans["encode"].name) == ("w0h1", "w0h1")
    plans = choose_plans([programs()], (2, 2), ("t0h1",))
    assert plans["decode"].name == "t0h1"
    assert plans["encode"].name in ("h0w1", "w0h1")


def test_two_names_for_one_program_are_one_too_many() -> None:
    with pytest.raises(PlanError, match="h0w1 and t0h1 are both plans for decode; name one"):
        choose_plans([programs()], (2, 2), ("h0w1", "t0h1"))


def test_a_named_plan_that_cannot_work_says_why() -> None:
    with pytest.raises(PlanError) as error:
        choose_plans([programs()], (1, 4), ("h0t1",))
    assert str(error.value).startswith("mesh 1x4: no plan works; plan h0t1, program decode, reference/vae.py:")
    assert str(error.value).endswith("a piece of 1 along time is shorter than the halo of 2; cut it less often")


def test_if_no_plan_works_each_says_why() -> None:
    """Weights of 40 hidden text units and heads of 4 that three devices do not divide."""
    with pytest.raises(PlanError) as error:
        choose_plans([programs()], (3, 3), ())
    message = str(error.value)
    assert message.startswith("mesh 3x3: no plan works; ")
    assert all(f"plan {name}: dimension " in message for name in TEXT_PLANS)


def test_geometries_share_a_plan_by_the_sum_of_their_times() -> None:
    """A plan that one geometry cannot use is no plan for any."""
    short: dict[str, Program] = {"decode": programs()["decode"]}
    with pytest.raises(PlanError, match="no plan works"):
        choose_plans([short, short], (1, 4), ("w0t1",))
    once, twice = (choose_plans([short] * count, (2, 2), ())["decode"].name for count in (1, 2))
    assert once == twice


def test_the_denoising_step_counts_as_often_as_it_runs() -> None:
    assert RUNS == {"denoise": 64}
    program, plan = programs()["denoise"], TRANSFORMER_PLANS["sp1tp0"]
    once = Program("other", program.inputs, program.params, program.ops, program.outputs)
    assert estimated_seconds(program, (2, 2), plan) == pytest.approx(64 * estimated_seconds(once, (2, 2), plan))


def test_seconds_of_a_cost() -> None:
    cost = Cost(
        flops=int(FLOPS_PER_SECOND), collective_bytes=int(2 * LINK_BYTES_PER_SECOND), collectives={"a": 2, "b": 3}
    )
    assert seconds(cost) == pytest.approx(1 + 2 + 5 * SECONDS_PER_COLLECTIVE)
