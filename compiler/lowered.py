"""Lowers partitioned programs into a bundle."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from mochi_aot.artifacts import BundleWriter, schema
from mochi_aot.compiler.ir.program import Concat, Constant, Program, Recipe
from mochi_aot.compiler.job import ProgramSummary
from mochi_aot.compiler.lower.target import Target
from mochi_aot.compiler.lower.weights import KnownSource, weight_source
from mochi_aot.compiler.partition.cost import Cost
from mochi_aot.compiler.partition.mesh import Mesh
from mochi_aot.compiler.profile import Profile
from mochi_aot.compiler.reference.geometry import Geometry


@dataclass(frozen=True)
class Compiled:
    """A partitioned program, the name of the plan that it follows, and what it costs."""

    program: Program
    plan: str
    cost: Cost


type CompiledPrograms = Mapping[Geometry, Mapping[str, Compiled]]  # by role


@dataclass(frozen=True)
class Lowered:
    """What was lowered: programs by their index among the bundle's files, where each geometry has which, and what they
    cost."""

    geometries: list[schema.Geometry] = field(default_factory=list)
    programs: dict[int, schema.Program] = field(default_factory=dict)
    summaries: list[ProgramSummary] = field(default_factory=list)


def add_programs(writer: BundleWriter, target: Target, compiled: CompiledPrograms, profile: Profile) -> Lowered:
    """Lower and write programs; equal ones are written once."""
    lowered = Lowered()
    for geometry, programs in compiled.items():
        files = {}
        for role, made in programs.items():
            with profile.step("lower", str(geometry), role):
                program = target.lowered(made.program, made.plan, made.cost)
            files[role] = writer.add_program(program)
            lowered.programs[files[role]] = program
            count = len(program.instructions)
            lowered.summaries.append(ProgramSummary(str(geometry), role, program.plan, count, program.stats))
        lowered.geometries.append(schema.Geometry(geometry.height, geometry.width, geometry.frames, files))
    return lowered


def constants_were_made(writer: BundleWriter, target: Target, source: KnownSource, mesh: Mesh) -> bool:
    """Return whether every constant of the programs that were lowered is a weight that an earlier compile has made."""
    for formed in target.formed_params():
        recipe = formed.param.recipe
        if _has_constant(recipe) and not writer.reusable.find(
            weight_source(formed.name, recipe, mesh, source, *formed.tools)
        ):
            return False
    return True


def _has_constant(recipe: Recipe) -> bool:
    if isinstance(recipe, Concat):
        return any(_has_constant(part) for part, _ in recipe.parts)
    return isinstance(recipe, Constant)
