"""Which plan each program gets: by name, or the fastest of those that memory holds, by a target's estimates.

Nothing here prices anything: a target does, by one table of constants of its own. The ttnn target lowers each candidate
at full size and prices its instructions, as `mochi-bench model` does. Lowering all candidates for the transformer takes
a few seconds of a compile's minutes; pricing the ops before lowering would need a second table of what each becomes,
and fewer layers a second trace.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from mochi_aot.artifacts.layout import PUBLISHED_STEPS
from mochi_aot.compiler.ir.program import Program
from mochi_aot.compiler.partition.errors import PlanError, PlanTextError
from mochi_aot.compiler.partition.mesh import Mesh
from mochi_aot.compiler.partition.plan import Plan
from mochi_aot.compiler.partition.plans import FAMILIES, Families

RUNS = {"denoise": PUBLISHED_STEPS, "encode_text": 2}  # of each program in one video; one run where not said
CHOSEN, NAMED = "chosen", "named"

Programs = Mapping[str, Program]


@dataclass(frozen=True)
class Estimate:
    """What one run of a program under a plan takes of one device, modelled; `peak_bytes` with its weights."""

    seconds: float
    sent_bytes: int
    peak_bytes: int
    weight_bytes: int


Estimator = Callable[[Program, Plan], Estimate]  # of a program without a mesh; raises PlanError


@dataclass(frozen=True)
class Candidate:
    """A plan that was considered for the programs of a family, the last of `roles` the one that is shown.

    `run` is of one run of that program, of the largest geometry, with the most memory that any program of the family
    takes and the weights of all of them; None where the plan cannot work. `seconds` are of all of the family's
    programs, as often as a video runs them, and the sum over geometries; `besides_bytes` is the most that any needs
    besides its weights. `verdict` says that the plan was chosen, or why not.
    """

    roles: tuple[str, ...]
    plan: Plan
    run: Estimate | None
    seconds: float
    besides_bytes: int = 0
    verdict: str = ""

    @property
    def is_chosen(self) -> bool:
        """Whether the programs get this plan."""
        return self.verdict in (CHOSEN, NAMED)


@dataclass(frozen=True)
class Choice:
    """The plan of each role, and all candidates with their verdicts, family by family."""

    plans: dict[str, Plan]
    candidates: list[Candidate]

    def resident_bytes(self) -> int:
        """Return what a device needs to keep the weights of all programs: by the rule of runtime/residency.py these,
        and the most that any program needs besides its own. Where it has less, each phase loads its weights anew."""
        chosen = [(c, c.run) for c in self.candidates if c.is_chosen and c.run is not None]
        return sum(run.weight_bytes for _, run in chosen) + max((c.besides_bytes for c, _ in chosen), default=0)


def parse_plan(text: str) -> tuple[str, ...]:
    """The plan names in `NAME[,NAME...]`; `auto` names none. Raises PlanTextError for an unknown name."""
    names = tuple(name for name in map(str.strip, text.split(",")) if name != "auto")
    known = sorted({name for plans in FAMILIES.values() for name in plans})
    for name in names:
        if name not in known:
            raise PlanTextError(f"there is no plan {name!r}; the plans are auto, {', '.join(known)}")
    return names


def choose_plans(
    geometries: Sequence[Programs],
    mesh: Mesh,
    names: tuple[str, ...],
    families: Families,
    estimate: Estimator,
    memory_bytes: float = math.inf,
) -> Choice:
    """Return a plan for each role, the same for all geometries so that they share weights.

    A family takes the plan that `names` has for it, or the one with the least estimated time among those that work and
    that a device's `memory_bytes` hold. Raises PlanError if the named one cannot work, or none can; it gives each
    plan's reason.
    """
    choice = Choice({}, [])
    for roles, plans in families.items():
        named = [plans[name] for name in names if name in plans]
        if len(named) > 1:
            raise PlanTextError(f"{' and '.join(p.name for p in named)} are both plans for {roles[-1]}; name one")
        programs = [programs[role] for programs in geometries for role in roles if role in programs]
        if not programs:
            continue
        found = [_candidate(roles, programs, plan, estimate) for plan in named or plans.values()]
        judged = _judged(found, mesh, math.inf if named else memory_bytes, NAMED if named else CHOSEN)
        choice.candidates.extend(judged)
        (best,) = (candidate for candidate in judged if candidate.is_chosen)
        choice.plans.update(dict.fromkeys(roles, best.plan))
    return choice


def _candidate(roles: tuple[str, ...], programs: list[Program], plan: Plan, estimate: Estimator) -> Candidate:
    try:
        runs = [(program.name, estimate(program, plan)) for program in programs]
    except PlanError as error:
        return Candidate(roles, plan, None, math.inf, verdict=str(error))
    shown = max((run for name, run in runs if name == runs[-1][0]), key=lambda run: run.seconds)
    run = replace(shown, peak_bytes=max(run.peak_bytes for _, run in runs), weight_bytes=_weights(runs))
    seconds = sum(RUNS.get(name, 1) * run.seconds for name, run in runs)
    return Candidate(roles, plan, run, seconds, max(run.peak_bytes - run.weight_bytes for _, run in runs))


def _weights(runs: list[tuple[str, Estimate]]) -> int:
    """Return the bytes of the weights of a family's programs, which geometries share."""
    by_role: dict[str, int] = {}
    for name, run in runs:
        by_role[name] = max(by_role.get(name, 0), run.weight_bytes)
    return sum(by_role.values())


def _judged(found: list[Candidate], mesh: Mesh, memory_bytes: float, praise: str) -> list[Candidate]:
    """Return the candidates with verdicts. Raises PlanError if there is none to choose."""
    judged = [_held(candidate, memory_bytes) for candidate in found]
    usable = [candidate for candidate in judged if not candidate.verdict]
    if not usable:
        reasons = "; ".join(candidate.verdict for candidate in judged)
        raise PlanError(f"mesh {mesh[0]}x{mesh[1]}: no plan works; {reasons}")
    best = min(usable, key=lambda candidate: candidate.seconds)
    return [c if c.verdict else replace(c, verdict=praise if c is best else _lost(c, best)) for c in judged]


def _held(candidate: Candidate, memory_bytes: float) -> Candidate:
    if candidate.run is None or candidate.run.peak_bytes <= memory_bytes:
        return candidate
    needed, there = candidate.run.peak_bytes / 1e9, memory_bytes / 1e9
    verdict = f"plan {candidate.plan.name}: needs {needed:.2f} GB on a device, which has {there:.2f} GB"
    return replace(candidate, verdict=verdict)


def _lost(candidate: Candidate, best: Candidate) -> str:
    if candidate.seconds == best.seconds:
        return f"no faster than {best.plan.name}"
    return f"{candidate.seconds / best.seconds:.2f} times as long as {best.plan.name}"
