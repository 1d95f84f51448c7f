"""Which plan each program gets: by name, or by the estimated time of one run.

The estimate is modelled, not measured: floating-point operations over a chip's rate, plus bytes sent over a link's,
plus a cost a collective. Its constants are nominal figures of a Wormhole chip; only the order of the plans matters.
"""

from collections.abc import Mapping

from mochi_aot.artifacts.layout import PUBLISHED_STEPS
from mochi_aot.compiler.ir.program import Program
from mochi_aot.compiler.partition.cost import Cost, cost_of
from mochi_aot.compiler.partition.errors import PlanError, PlanTextError
from mochi_aot.compiler.partition.mesh import Mesh
from mochi_aot.compiler.partition.plan import Plan
from mochi_aot.compiler.partition.plans import FAMILIES, Families
from mochi_aot.compiler.partition.spmd import partition

FLOPS_PER_SECOND = 74e12  # bfloat16 on one Wormhole chip, as its data sheet states it
LINK_BYTES_PER_SECOND = 4 * 12.5e9  # four 100 Gb/s Ethernet links to each neighbour
SECONDS_PER_COLLECTIVE = 20e-6
RUNS = {"denoise": PUBLISHED_STEPS}  # of each program in one video; one run where not said

Programs = Mapping[str, Program]


def parse_plan(text: str) -> tuple[str, ...]:
    """The plan names in `NAME[,NAME...]`; `auto` names none. Raises PlanTextError for an unknown name."""
    names = tuple(name for name in map(str.strip, text.split(",")) if name != "auto")
    known = sorted({name for plans in FAMILIES.values() for name in plans})
    for name in names:
        if name not in known:
            raise PlanTextError(f"there is no plan {name!r}; the plans are auto, {', '.join(known)}")
    return names


def choose_plans(
    geometries: list[Programs], mesh: Mesh, names: tuple[str, ...], families: Families = FAMILIES
) -> dict[str, Plan]:
    """A plan for each role, the same for all geometries so that they share weights.

    A family takes the plan that `names` has for it, or the one with the least estimated time among those that work.
    Raises PlanError if the named one, or every one, cannot work; it gives each plan's reason.
    """
    chosen: dict[str, Plan] = {}
    for roles, plans in families.items():
        named = [plans[name] for name in names if name in plans]
        if len(named) > 1:
            raise PlanTextError(f"{' and '.join(p.name for p in named)} are both plans for {roles[-1]}; name one")
        programs = [programs[role] for programs in geometries for role in roles if role in programs]
        chosen.update(dict.fromkeys(roles, _best(programs, mesh, named or list(plans.values()))))
    return chosen


def _best(programs: list[Program], mesh: Mesh, plans: list[Plan]) -> Plan:
    times: dict[str, float] = {}
    reasons: list[str] = []
    for plan in plans:
        try:
            times[plan.name] = sum(estimated_seconds(program, mesh, plan) for program in programs)
        except PlanError as error:
            reasons.append(str(error))
    if not times:
        raise PlanError(f"mesh {mesh[0]}x{mesh[1]}: no plan works; " + "; ".join(reasons))
    return min((plan for plan in plans if plan.name in times), key=lambda plan: times[plan.name])


def estimated_seconds(program: Program, mesh: Mesh, plan: Plan) -> float:
    """Modelled seconds that the program takes in one video. Raises PlanError if the plan cannot work."""
    return RUNS.get(program.name, 1) * seconds(cost_of(partition(program, mesh, plan)))


def seconds(cost: Cost) -> float:
    """Modelled seconds of one run: nothing overlaps."""
    compute = cost.flops / FLOPS_PER_SECOND
    sending = cost.collective_bytes / LINK_BYTES_PER_SECOND
    return compute + sending + SECONDS_PER_COLLECTIVE * sum(cost.collectives.values())
