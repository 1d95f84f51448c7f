"""What a compile is asked for, and what it says: while it works, and at its end. Loads neither torch nor ttnn."""

from dataclasses import dataclass, field
from pathlib import Path

from mochi_aot.artifacts import schema
from mochi_aot.artifacts.machines import WORMHOLE
from mochi_aot.compiler.lora.choice import LoraChoice
from mochi_aot.compiler.partition.mesh import Mesh
from mochi_aot.compiler.reference.geometry import Geometry


@dataclass(frozen=True)
class Job:
    """What to compile. `plans` are plan names; families that they do not name choose for themselves."""

    mesh: Mesh
    geometries: tuple[Geometry, ...]
    plans: tuple[str, ...] = ()
    dtype: str = "bfloat16"
    target: str = "torch"
    weights_dtype: str = "bfloat16"  # of the matrices: bfloat8_b for ttnn, float8 for torch, where else `dtype` counts
    links_dtype: str = "bfloat16"  # of what chips send each other in a denoising step, for ttnn
    arch: str = WORMHOLE  # of the chips, for ttnn
    require_kernels: bool = False  # for ttnn: real ones, not those of the stand-in compiler
    with_encoder: bool = False  # of videos, which nothing but an input video needs
    text_dtype: str | None = None  # of T5, for torch: `dtype` unless given


@dataclass(frozen=True)
class Inputs:
    """What a compile reads. See compiler.api.compile for the fields' meanings.

    `checkpoint` is a path, or the id of a repository on the hub; nothing where each part is named by itself.
    """

    checkpoint: str | None
    text_encoder: Path | None = None
    transformer: Path | None = None
    vae: Path | None = None
    tokenizer: Path | None = None
    layout: str | None = None
    variant: str | None = None
    revision: str | None = None


@dataclass(frozen=True)
class Request:
    """A whole compile: the job, what it reads and what it writes. See compiler.api.compile for the fields' meanings.

    `cache` is the folder that keeps what was read of checkpoints, and programs, if there is a place for one.
    """

    inputs: Inputs
    job: Job
    output: Path
    force: bool
    resume: bool
    reuse: Path | None
    trust_times: bool
    check_weights: bool
    print_ir: Path | None
    profile: Path | None
    cache: Path | None
    loras: tuple[LoraChoice, ...] = ()


@dataclass(frozen=True)
class ProgramSummary:
    """One lowered program of one geometry; `stats` are of one run on one device."""

    geometry: str
    role: str
    plan: str
    instructions: int
    stats: schema.ProgramStats


@dataclass(frozen=True)
class KernelSummary:
    """The kernels in a bundle; those of the stand-in compiler do nothing, and chips build their own."""

    count: int
    stand_in: bool


@dataclass(frozen=True)
class Summary:
    """What a compile made and took. Bytes; `seconds` are of the call, `peak_rss` is the process's, mapped pages
    included. `kernels` is None where the target has none. `checkpoint` is what the bundle records of its
    checkpoint: its layout, the variant and the dtype of its weights, where it comes from."""

    bundle_id: str
    programs: list[ProgramSummary]
    weight_bytes_per_device: int
    weight_bytes_on_disk: int
    weight_bytes_reused: int
    seconds: float
    peak_rss: int
    kernels: KernelSummary | None = None
    checkpoint: dict[str, str] = field(default_factory=dict)


class Progress:
    """What a compile reports as it goes. This one is silent."""

    def phase(self, text: str) -> None:
        """Say that a new part of the work begins."""

    def weights(self, done: int, total: int) -> None:
        """Say that `done` of `total` bytes that a device holds were written."""

    def fetched(self, done: int, total: int) -> None:
        """Say that `done` of `total` bytes of a checkpoint have come from the hub; any thread may say so."""

    def note(self, text: str) -> None:
        """Say something about the checkpoint that is worth knowing."""
