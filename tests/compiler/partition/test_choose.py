"""Choosing plans: by name, and by the least estimated time of those that work."""

import math
from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mochi_aot.compiler.compile import chosen_plans, compile_program
from mochi_aot.compiler.ir.program import Program
from mochi_aot.compiler.lower import torch_seconds
from mochi_aot.compiler.lower.torch import TorchTarget
from mochi_aot.compiler.partition.choose import RUNS, Choice, Estimate, choose_plans, parse_plan
from mochi_aot.compiler.partition.cost import Cost
from mochi_aot.compiler.partition.errors import PlanError
from mochi_aot.compiler.partition.mesh import Mesh
from mochi_aot.compiler.partition.plan import Plan
from mochi_aot.compiler.partition.plans import DECODER_PLANS, TEXT_PLANS, TRANSFORMER_PLANS
from mochi_aot.compiler.partition.spmd import partition
from mochi_aot.compiler.reference.geometry import Geometry
from tests.compiler.tiny import GEOMETRY, programs

STEP = ("prepare_prompt", "prepare_steps", "denoise")
MESHES = [(1, 1), (1, 2), (2, 2), (2, 4), (1, 8), (4, 8)]


def chosen(mesh: Mesh, names: tuple[str, ...] = ()) -> dict[str, Plan]:
    """Of the tiny model, as the torch target chooses."""
    return chosen_plans([programs()], mesh, names, TorchTarget()).plans


def pick(estimates: dict[str, Estimate | str], memory: float = math.inf, names: tuple[str, ...] = ()) -> Choice:
    """Among plans that cost what is said, or that cannot work for the reason given."""
    plans = {name: Plan(name) for name in estimates}

    def estimate(program: Program, plan: Plan) -> Estimate:
        found = estimates[plan.name]
        if isinstance(found, str):
            raise PlanError(found)
        return found

    return choose_plans([{"denoise": Program("denoise")}], (1, 2), names, {("denoise",): plans}, estimate, memory)


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
    with pytest.raises(
        PlanError,
        match=r"there is no plan '.*'; the plans are auto, gp0sp1, .*, h0t1, h0w1, .*, w0h1, w0t1, w1, whole$",
    ):
        parse_plan(text)


@pytest.mark.parametrize("mesh", MESHES, ids=lambda mesh: f"{mesh[0]}x{mesh[1]}")
def test_every_program_gets_a_plan_that_works(mesh: Mesh) -> None:
    plans = chosen(mesh)
    assert set(plans) == set(programs())
    for role, program in programs().items():
        partition(program, mesh, plans[role])


def test_programs_that_share_weights_share_a_plan() -> None:
    plans = chosen((2, 4))
    assert len({plans[role].name for role in STEP}) == 1


@pytest.mark.parametrize("name", ["sp1tp0", "sp0tp1", "gp0sp1", "gp0sp1fs0"])
def test_a_named_plan_is_taken_and_the_others_choose(name: str) -> None:
    plans = chosen((2, 4), (name,))
    assert plans["denoise"] is TRANSFORMER_PLANS[name]
    assert plans["decode"].name in DECODER_PLANS
    assert plans["encode_text"].name in TEXT_PLANS


def test_a_name_that_both_directions_of_the_vae_have_is_for_both() -> None:
    plans = chosen((2, 2), ("w0h1",))
    assert (plans["decode"].name, plans["encode"].name) == ("w0h1", "w0h1")
    plans = chosen((2, 2), ("t0h1",))
    assert plans["decode"].name == "t0h1"
    assert plans["encode"].name in ("h0w1", "w0h1")


def test_two_names_for_one_program_are_one_too_many() -> None:
    with pytest.raises(PlanError, match="h0w1 and t0h1 are both plans for decode; name one"):
        chosen((2, 2), ("h0w1", "t0h1"))


def test_a_named_plan_that_cannot_work_says_why() -> None:
    with pytest.raises(PlanError) as error:
        chosen((1, 4), ("h0t1",))
    assert str(error.value).startswith("mesh 1x4: no plan works; plan h0t1, program decode, reference/vae.py:")
    assert str(error.value).endswith("a piece of 1 along time is shorter than the halo of 2; cut it less often")


def test_if_no_plan_works_each_says_why() -> None:
    with pytest.raises(PlanError) as error:
        pick({"a": "plan a: too wide", "b": "plan b: too long", "c": "plan c, program denoise: too wide"})
    told = "plan a: too wide; plan b: too long; plan c, program denoise: too wide"
    assert str(error.value) == f"mesh 1x2: no plan works; {told}"


def test_a_reason_that_plans_share_is_told_once() -> None:
    with pytest.raises(PlanError) as error:
        pick({"a": "plan a: too wide", "b": "plan b: too long", "c": "plan c: too wide"})
    assert str(error.value) == "mesh 1x2: no plan works; plan a, c: too wide; plan b: too long"


def test_plans_of_last_resort_are_tried_where_no_other_works() -> None:
    """Three devices divide neither 8 heads nor 40 hidden text units, and two do."""
    plans = chosen((3, 3))
    assert (plans["encode_text"].name, plans["denoise"].name) == ("tpnone", "sp1")
    assert not any(plan.last_resort for plan in chosen((2, 2)).values())


def test_geometries_share_a_plan_by_the_sum_of_their_times() -> None:
    """`a` is faster for the one, `b` for both together; a plan that one geometry cannot use is no plan for any."""
    times = {("first", "a"): 1.0, ("second", "a"): 9.0, ("first", "b"): 2.0, ("second", "b"): 3.0, ("first", "c"): 0.1}

    def estimate(program: Program, plan: Plan) -> Estimate:
        if (program.name, plan.name) not in times:
            raise PlanError("no")
        return Estimate(times[program.name, plan.name], 0, 0, 0)

    family = {("denoise",): {name: Plan(name) for name in "abc"}}
    first, second = ({"denoise": Program(name)} for name in ("first", "second"))
    assert choose_plans([first, second], (1, 2), (), family, estimate).plans["denoise"].name == "b"
    assert choose_plans([first], (1, 2), (), family, estimate).plans["denoise"].name == "c"


def test_the_denoising_step_counts_as_often_as_it_runs() -> None:
    """`a` takes a second longer to prepare, `b` a fiftieth longer for each of 64 steps."""
    assert RUNS["denoise"] == 64
    times = {("prepare_steps", "a"): 2.0, ("denoise", "a"): 1.0, ("prepare_steps", "b"): 1.0, ("denoise", "b"): 1.02}
    pair = {role: Program(role) for role in ("prepare_steps", "denoise")}
    family = {tuple(pair): {name: Plan(name) for name in "ab"}}
    choice = choose_plans(
        [pair], (1, 2), (), family, lambda program, plan: Estimate(times[program.name, plan.name], 0, 0, 0)
    )
    assert choice.plans["denoise"].name == "a"
    assert [candidate.seconds for candidate in choice.candidates] == pytest.approx([66.0, 66.28])


FAST, SMALL = Estimate(1.0, 0, 90, 80), Estimate(3.0, 7, 50, 40)


def test_the_fastest_that_memory_holds_is_taken_and_the_others_say_why_they_lost() -> None:
    choice = pick({"fast": FAST, "small": SMALL, "slow": Estimate(6.0, 0, 1, 1), "bad": "plan bad: 3 by 2"}, memory=60)
    assert choice.plans["denoise"].name == "small"
    assert [candidate.verdict for candidate in choice.candidates] == [
        "plan fast: needs 0.00 GB on a device, which has 0.00 GB",
        "chosen",
        "2.00 times as long as small",
        "plan bad: 3 by 2",
    ]
    assert pick({"fast": FAST, "small": SMALL}, memory=90).plans["denoise"].name == "fast"


def test_of_equals_the_first_is_taken() -> None:
    choice = pick({"a": SMALL, "b": SMALL})
    assert [candidate.verdict for candidate in choice.candidates] == ["chosen", "no faster than a"]


def test_where_memory_holds_none_the_error_says_what_each_needs() -> None:
    with pytest.raises(PlanError) as error:
        pick({"fast": Estimate(1.0, 0, 9_000_000_000, 0), "bad": "plan bad: no"}, memory=5e9)
    assert str(error.value) == (
        "mesh 1x2: no plan works; plan fast: needs 9.00 GB on a device, which has 5.00 GB; plan bad: no"
    )


def test_a_named_plan_is_left_to_the_dry_run_to_hold() -> None:
    choice = pick({"fast": FAST, "small": SMALL}, memory=60, names=("fast",))
    assert [(c.plan.name, c.verdict) for c in choice.candidates] == [("fast", "named")]


def test_all_weights_and_the_most_besides_are_what_a_device_keeps() -> None:
    """40 and 10 of weights; besides its own the first program needs 10, the second 25."""
    estimates = {"denoise": Estimate(1.0, 0, 50, 40), "decode": Estimate(1.0, 0, 35, 10)}
    pair = {role: Program(role) for role in estimates}
    families = {(role,): {role: Plan(role)} for role in pair}
    choice = choose_plans([pair], (1, 2), (), families, lambda program, plan: estimates[program.name])
    assert choice.resident_bytes() == 40 + 10 + 25


def test_slow_links_make_the_rows_of_guidance_go_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """On 2x2 both plans compute as much, and without tensor parallelism nothing is summed."""
    monkeypatch.setattr(torch_seconds, "LINK_BYTES_PER_SECOND", 1e3)
    assert chosen((2, 2))["denoise"].name in ("gp0sp1", "gp1sp0")


def test_weights_that_fit_only_when_they_are_cut_are_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the links: the memory is what one program takes whose weights are in two halves, and no more."""
    monkeypatch.setattr(torch_seconds, "LINK_BYTES_PER_SECOND", 1e3)
    peaks = {c.plan.name: c.run for c in chosen_plans([programs()], (2, 1), (), TorchTarget()).candidates}
    cut, whole = (peaks[name] for name in ("sp1tp0", "gp0sp1"))
    assert cut is not None
    assert whole is not None
    assert cut.weight_bytes < whole.weight_bytes
    memory = (cut.peak_bytes + whole.peak_bytes) // 2
    monkeypatch.setattr(TorchTarget, "memory_bytes", lambda self, mesh: memory)
    choice = chosen_plans([{role: programs()[role] for role in STEP}], (2, 1), (), TorchTarget())
    assert choice.plans["denoise"].name == "sp1tp0"


@cache
def run_of(mesh: Mesh, geometry: Geometry, name: str) -> tuple[float, int] | None:
    """Seconds and peak of a plan of the step, or None if it cannot work. The peak is counted the slow way: at each op
    all values that exist and that something still needs."""
    try:
        made = compile_program(programs(geometry)["denoise"], mesh, TRANSFORMER_PLANS[name])
    except PlanError:
        return None
    return TorchTarget().estimate(made.program, name, made.cost).seconds, counted_peak(made.program)


def counted_peak(program: Program) -> int:
    always = {item.value for item in program.inputs} | {param.value for param in program.params}
    source = {value: value for value in program.values()}
    for op in program.ops:
        if op.opcode == "reshape":
            source[op.result] = source[op.operands[0]]
    needed = {source[value]: index for index, op in enumerate(program.ops) for value in (*op.operands, *op.results)}
    needed |= dict.fromkeys((source[output.value] for output in program.outputs), len(program.ops))
    born = {source[value]: index for index, op in reversed([*enumerate(program.ops)]) for value in op.results}
    births = {value: index for value, index in born.items() if value not in always}
    held = sum(value.type.local_nbytes for value in always)
    return max(
        held + sum(v.type.local_nbytes for v, birth in births.items() if birth <= index <= needed[v])
        for index in range(len(program.ops))
    )


GEOMETRIES = [GEOMETRY, Geometry(32, 48, 1), Geometry(64, 64, 7), Geometry(48, 80, 19)]


@settings(max_examples=60, deadline=None)
@given(
    mesh=st.tuples(st.integers(1, 8), st.integers(1, 8)),
    geometry=st.sampled_from(GEOMETRIES),
    share=st.floats(0.1, 1.5),
)
def test_what_is_chosen_fits_and_nothing_that_fits_is_faster(mesh: Mesh, geometry: Geometry, share: float) -> None:
    """For any memory, from too little for any plan to enough for all."""
    runs = {name: run for name in TRANSFORMER_PLANS if (run := run_of(mesh, geometry, name)) is not None}
    if not runs:
        return
    memory = share * max(peak for _, peak in runs.values())
    target = TorchTarget()

    def estimate(program: Program, plan: Plan) -> Estimate:
        made = compile_program(program, mesh, plan)
        return target.estimate(made.program, plan.name, made.cost)

    fitting = {name: seconds for name, (seconds, peak) in runs.items() if peak <= memory}
    better = {name: seconds for name, seconds in fitting.items() if not TRANSFORMER_PLANS[name].last_resort}
    family, step = {("denoise",): TRANSFORMER_PLANS}, {"denoise": programs(geometry)["denoise"]}
    if not fitting:
        with pytest.raises(PlanError, match="no plan works"):
            choose_plans([step], mesh, (), family, estimate, memory)
        return
    plan = choose_plans([step], mesh, (), family, estimate, memory).plans["denoise"]
    assert fitting[plan.name] == min((better or fitting).values())


def test_seconds_of_a_cost() -> None:
    cost = Cost(
        flops=int(torch_seconds.FLOPS_PER_SECOND),
        collective_bytes=int(2 * torch_seconds.LINK_BYTES_PER_SECOND),
        collectives={"a": 2, "b": 3},
    )
    assert torch_seconds.seconds(cost) == pytest.approx(1 + 2 + 5 * torch_seconds.SECONDS_PER_COLLECTIVE)
