"""What `mochi-compile` does behind its options: reads them, shows progress, reports."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from mochi_aot.compiler.checkpoint import Checkpoint, open_checkpoint
from mochi_aot.compiler.checkpoint.content_record import ContentRecord
from mochi_aot.compiler.compile import Job, Progress, Summary, compile_bundle
from mochi_aot.compiler.lower.ttnn.dry_run import DryRun
from mochi_aot.compiler.partition.choose import parse_plan
from mochi_aot.compiler.partition.mesh import parse_mesh
from mochi_aot.compiler.reference.geometry import Geometry, GeometryError
from mochi_aot.runtime.cache import cache_folder
from mochi_aot.runtime.errors import BackendError
from mochi_aot.tools.commands.console import Console
from mochi_aot.tools.commands.text import human_bytes, human_count, table

__all__ = ["Terminal", "compile_bundle", "make_job", "open_recorded", "report", "target_ready"]


def make_job(
    mesh: str, geometries: tuple[str, ...], plan: str, dtype: str, target: str, weights_dtype: str, links_dtype: str
) -> Job:
    """The job that the options describe. Raises PlanError and GeometryError for texts that say nothing, and UsageError
    for options that do not go together."""
    sizes = tuple(dict.fromkeys(parse_geometry(text) for text in geometries))
    if target == "ttnn" and dtype != "bfloat16":
        raise click.UsageError(f"--dtype {dtype} is for --target torch; chips compute in bfloat16")
    for option, value in (("--weights-dtype", weights_dtype), ("--links-dtype", links_dtype)):
        if target == "torch" and value != "bfloat16":
            raise click.UsageError(f"{option} {value} is for --target ttnn; torch has --dtype alone")
    return Job(parse_mesh(mesh), sizes, parse_plan(plan), dtype, target, weights_dtype, links_dtype)


def open_recorded(path: Path, text_encoder: Path | None, check_weights: bool, trust_times: bool) -> Checkpoint:
    """The checkpoint; what is read of it is recorded for this user, and with `trust_times` what was is believed.

    Raises CheckpointError, and BackendError for `trust_times` without a home folder.
    """
    try:
        record = ContentRecord(cache_folder() / "contents", trust_times)
    except BackendError:
        if trust_times:
            raise
        record = None
    return open_checkpoint(path, text_encoder, check_weights, record)


@contextmanager
def target_ready(job: Job) -> Iterator[DryRun | None]:
    """For ttnn, points this process at a mocked mesh: ttnn lays out tiles for a mesh, which a build host has not.

    Gives the dry run that builds the bundle's kernels there.
    """
    if job.target != "ttnn":
        yield None
        return
    from mochi_aot.tools.mocked import mocked_mesh

    with mocked_mesh(job.mesh) as mocked:
        yield mocked.check


def parse_geometry(text: str) -> Geometry:
    """`HxWxF` as a Geometry. Raises GeometryError for anything else."""
    match = re.fullmatch(r"(\d{1,5})x(\d{1,5})x(\d{1,5})", text)
    if not match:
        raise GeometryError(f"geometry {text!r} is not HxWxF with three numbers; write for example 480x848x163")
    return Geometry(*map(int, match.groups()))


class Terminal(Progress):
    """Phases and weights on the console."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def phase(self, text: str) -> None:
        self._console.phase(text)

    def weights(self, done: int, total: int) -> None:
        self._console.update(done, total, "bytes")


def report(summary: Summary, output: Path) -> str:
    """The table that ends a compile."""
    rows = [
        [
            program.geometry,
            program.role,
            program.plan,
            str(program.ops),
            str(sum(program.cost.collectives.values())),
            human_count(program.cost.flops, "FLOP"),
            human_bytes(program.cost.weight_bytes),
            human_bytes(program.cost.collective_bytes),
        ]
        for program in summary.programs
    ]
    header = ["geometry", "program", "plan", "ops", "collectives", "compute", "weights", "sent"]
    return "\n".join(
        [
            table(header, rows),
            "compute, weights and sent are of one run on one device",
            f"weights: {human_bytes(summary.weight_bytes_per_device)} a device, "
            f"{human_bytes(summary.weight_bytes_on_disk)} on disk, "
            f"{human_bytes(summary.weight_bytes_reused)} of it made before",
            f"took {summary.seconds:.1f} s, peak memory {human_bytes(summary.peak_rss)}",
            f"bundle {summary.bundle_id[:16]} in {output}",
        ]
    )
