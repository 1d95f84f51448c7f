"""Which plans a compile would consider and take, without compiling."""

from collections.abc import Iterable
from dataclasses import dataclass
from math import prod

from mochi_aot.artifacts.dtypes import DTYPES
from mochi_aot.compiler.checkpoint import Checkpoint
from mochi_aot.compiler.compile import check_encoder, chosen_plans
from mochi_aot.compiler.job import Job, Progress
from mochi_aot.compiler.lora.tuned import TunedCheckpoint
from mochi_aot.compiler.lower.target import Target
from mochi_aot.compiler.lower.torch import TorchTarget
from mochi_aot.compiler.lower.ttnn.target import TtnnTarget
from mochi_aot.compiler.partition.choose import Choice
from mochi_aot.compiler.partition.plans import families_for
from mochi_aot.compiler.programs import build_programs
from mochi_aot.compiler.sizes import check_geometries


@dataclass(frozen=True)
class Touched:
    """Which parameters LoRAs change: how many of all, and their bytes of all bytes, in the dtype of activations."""

    loras: str
    parameters: int
    of_parameters: int
    nbytes: int
    of_nbytes: int


@dataclass(frozen=True)
class Explanation:
    """What was chosen among what. `memory_bytes` are those of a device that plans may use, infinite on hosts."""

    job: Job
    choice: Choice
    memory_bytes: float
    touched: Touched | None = None


def explain(checkpoint: Checkpoint | TunedCheckpoint, job: Job, progress: Progress | None = None) -> Explanation:
    """Return the plans that compiling `checkpoint` for `job` would consider. Nothing is written, no mesh is mocked.

    Raises GeometryError and PlanError where the compile would, before it writes anything.
    """
    progress = progress or Progress()
    target: Target = TorchTarget(job.weights_dtype)
    if job.target == "ttnn":
        target = TtnnTarget(job.weights_dtype, job.links_dtype, arch=job.arch)
    check_encoder(job, checkpoint.config)
    families = families_for(target.families, job.with_encoder)
    check_geometries(job.geometries, job.mesh, job.plans, families, checkpoint.config)
    traced = []
    for geometry in job.geometries:
        progress.phase(f"tracing {geometry}")
        built = build_programs(
            checkpoint.config,
            geometry,
            job.dtype,
            checkpoint,
            with_encoder=job.with_encoder,
            text_dtype=job.text_dtype,
        )
        traced.append(built)
    progress.phase(f"considering plans for {job.mesh[0]}x{job.mesh[1]}")
    choice = chosen_plans(traced, job.mesh, job.plans, target)
    touched = _touched(checkpoint, job.dtype) if isinstance(checkpoint, TunedCheckpoint) else None
    return Explanation(job, choice, target.memory_bytes(job.mesh), touched)


def _touched(checkpoint: TunedCheckpoint, dtype: str) -> Touched:
    def nbytes(names: Iterable[str]) -> int:
        return sum(prod(checkpoint.shape(name)) * DTYPES[dtype].storage.itemsize for name in names)

    names = checkpoint.names()
    changed = [name for name in names if checkpoint.changes(name)]
    return Touched(checkpoint.origin["lora"], len(changed), len(names), nbytes(changed), nbytes(names))
