"""Whether the plans that are chosen fit a chip, for random meshes, sizes of video, dtypes of weights and chips' memory.

`python -m tests.compiler.lower.ttnn.plans_fit --count 200` prints a line for each case and one for all. What plans need
is what ttnn's allocators give out when a small model's programs run dry on a mocked mesh. A chip's memory is drawn
between what the most modest plans and what the greediest need, by the model, so that some plan is always too large.
"""

import random
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import click

from mochi_aot.artifacts.schema import Program
from mochi_aot.compiler.compile import chosen_plans, compile_program
from mochi_aot.compiler.from_config import SeededSource
from mochi_aot.compiler.ir.program import Program as IRProgram
from mochi_aot.compiler.lower.ttnn.chip_constants import DRAM_SPARE
from mochi_aot.compiler.lower.ttnn.dry_run import LocalWeight, local_weight
from mochi_aot.compiler.lower.ttnn.lowerer import Lowerer
from mochi_aot.compiler.lower.ttnn.mesh import mesh_settings, trace_bytes
from mochi_aot.compiler.lower.ttnn.program import lower
from mochi_aot.compiler.lower.ttnn.target import TtnnTarget
from mochi_aot.compiler.partition.choose import Choice
from mochi_aot.compiler.partition.plan import Plan
from mochi_aot.compiler.programs import build_programs
from mochi_aot.compiler.reference.geometry import Geometry
from mochi_aot.runtime.ttnn.kernel_cache import KernelCache
from mochi_aot.runtime.ttnn.mock import enter_mock, prepare_mock
from mochi_aot.runtime.ttnn.mocked import empty_weights, opened, run_dry
from tests.compiler.lower.ttnn.every_mesh_on_mock import CONFIG as ONE_LAYER
from tests.compiler.lower.ttnn.every_mesh_on_mock import GRID

CONFIG = replace(ONE_LAYER, dit=replace(ONE_LAYER.dit, layers=3))
MESHES_A_VIDEO = 5  # tracing takes the most time, and no mesh

Built = dict[str, IRProgram]


class SmallChip(TtnnTarget):
    """With as much memory for plans as is said."""

    def __init__(self, weights_dtype: str, plan_bytes: float) -> None:
        super().__init__(weights_dtype)
        self._plan_bytes = plan_bytes

    def memory_bytes(self, mesh: tuple[int, int]) -> float:
        """See Target."""
        return self._plan_bytes


@dataclass(frozen=True)
class Fit:
    """A case: what its largest program took of a chip's memory, and how many plans were too large for it."""

    mesh: tuple[int, int]
    geometry: Geometry
    weights_dtype: str
    plan: str
    needed: int
    there: float
    too_large: int
    refusals: list[str]

    @property
    def right(self) -> bool:
        """Whether ttnn accepted all, and all fitted."""
        return not self.refusals and self.needed <= self.there

    def __str__(self) -> str:
        size = f"{self.needed / 1e6:.1f} of {self.there / 1e6:.1f} MB"
        rows, columns = self.mesh
        words = (f"{rows}x{columns}", self.geometry, self.weights_dtype, self.plan, size, f"{self.too_large} too large")
        return " ".join(map(str, ("right" if self.right else "WRONG", *words, *self.refusals)))


def fits(count: int, seed: int, folder: Path) -> Iterator[Fit]:
    """Give `count` cases; the same for the same seed."""
    enter_mock(prepare_mock(GRID, folder))
    drawn = random.Random(seed)
    for number in range(count):
        if number % MESHES_A_VIDEO == 0:
            geometry = Geometry(*(16 * drawn.randint(4, 16) for _ in range(2)), 6 * drawn.randint(1, 8) + 1)
            built = build_programs(CONFIG, geometry, "bfloat16", SeededSource(CONFIG))
        yield _fit(built, geometry, drawn, folder)


def _fit(built: Built, geometry: Geometry, drawn: random.Random, folder: Path) -> Fit:
    mesh = (drawn.randint(1, 8), drawn.randint(1, 8))
    weights_dtype = drawn.choice(("bfloat16", "bfloat8_b"))
    plan_bytes = _between(chosen([built], mesh, SmallChip(weights_dtype, float("inf"))), drawn)
    choice = chosen([built], mesh, SmallChip(weights_dtype, plan_bytes))
    programs, weights = _lowered(built, mesh, choice.plans, weights_dtype)
    with opened(mesh, mesh_settings(mesh, programs.values()), KernelCache(folder / "kernels")) as backend:
        reports = run_dry(backend, empty_weights(backend, weights), programs, str(geometry))
    needed = max(report.peak_bytes + trace_bytes([programs[report.role]]) for report in reports)
    refusals = [f"{report.role}: {report.refusal}" for report in reports if report.refusal is not None]
    too_large = sum(": needs " in candidate.verdict for candidate in choice.candidates)
    plan = choice.plans["denoise"].name
    return Fit(mesh, geometry, weights_dtype, plan, needed, plan_bytes / (1 - DRAM_SPARE.value), too_large, refusals)


def chosen(programs: list[Built], mesh: tuple[int, int], target: TtnnTarget) -> Choice:
    """The plans of the programs that the target has."""
    roles = [role for family in target.families for role in family]
    return chosen_plans([{role: built[role] for role in roles} for built in programs], mesh, (), target)


def _between(choice: Choice, drawn: random.Random) -> float:
    """A size that at least one plan of each family needs at most, and that some plans exceed."""
    peaks: dict[tuple[str, ...], list[int]] = {}
    for candidate in choice.candidates:
        if candidate.run is not None:
            peaks.setdefault(candidate.roles, []).append(candidate.run.peak_bytes)
    least = max(min(sizes) for sizes in peaks.values())
    return drawn.uniform(least, max(least, *(max(sizes) for sizes in peaks.values())))


def _lowered(
    built: Built, mesh: tuple[int, int], plans: dict[str, Plan], weights_dtype: str
) -> tuple[dict[str, Program], dict[str, LocalWeight]]:
    target = TtnnTarget(weights_dtype)
    programs, weights = {}, {}
    for role, plan in plans.items():
        made = compile_program(built[role], mesh, plan, target)
        low = lower(Lowerer(made.program, mesh, weights_dtype), plan.name, made.cost)
        programs[role] = low.program
        weights.update((weight.name, local_weight(weight)) for weight in low.weights)
    return programs, weights


@click.command()
@click.option("--count", default=200, show_default=True)
@click.option("--seed", default=0, show_default=True)
def main(count: int, seed: int) -> None:
    """Print each case, and how many were right; end with 1 where one was not."""
    right = 0
    with tempfile.TemporaryDirectory() as folder:
        for fit in fits(count, seed, Path(folder)):
            print(fit, flush=True)
            right += fit.right
    print(f"{right} of {count} fit", flush=True)
    sys.exit(right < count)


if __name__ == "__main__":
    main()
