"""What a bundle holds, as plain data. The codec writes exactly these fields; docs/format.md says what they mean."""

from dataclasses import dataclass

type Attr = bool | int | float | str | list[Attr] | None
type Plain = bool | int | float | str | list[Plain] | dict[str, Plain] | None


@dataclass(frozen=True)
class Placement:
    """Device c of the mesh axis holds positions [c*chunk, (c+1)*chunk) of `dim`; past the end there is padding."""

    dim: int
    chunk: int


@dataclass(frozen=True)
class TensorSpec:
    """A tensor over the mesh: its global shape, its shape on each device, and a placement (or None) per mesh axis.

    `layout` is how a device stores it: row_major, or tile (32x32 pieces of the last two dims, for the target ttnn).
    """

    dtype: str
    shape: list[int]
    local_shape: list[int]
    placements: list[Placement | None]
    layout: str = "row_major"


@dataclass(frozen=True)
class Instruction:
    """One op on value ids. `free` lists values that are dead once it has run; `loc` is the source line it came from."""

    op: str
    operands: list[int]
    results: list[int]
    attrs: dict[str, Attr]
    free: list[int]
    loc: str


@dataclass(frozen=True)
class ProgramInput:
    """A value given by the caller; `rate` says how often it changes: geometry, prompt, step or latent."""

    name: str
    value: int
    spec: TensorSpec
    rate: str


@dataclass(frozen=True)
class ProgramOutput:
    """A value handed to the caller. It is connected by its name to the inputs of later programs."""

    name: str
    value: int
    spec: TensorSpec


@dataclass(frozen=True)
class ProgramWeight:
    """A value that stands for the weight of this name in the manifest."""

    name: str
    value: int


@dataclass(frozen=True)
class ProgramStats:
    """Cost of one run on one device; `collectives` counts the collective ops by name."""

    flops: int
    weight_bytes: int
    collective_bytes: int
    collectives: dict[str, int]


@dataclass(frozen=True)
class Program:
    """An instruction list in execution order, the same for all devices; `plan` names how it was partitioned."""

    name: str
    plan: str
    inputs: list[ProgramInput]
    weights: list[ProgramWeight]
    outputs: list[ProgramOutput]
    instructions: list[Instruction]
    stats: ProgramStats


@dataclass(frozen=True)
class File:
    """A file of the bundle: its path with forward slashes, its size and the hash of its bytes."""

    path: str
    nbytes: int
    sha256: str


@dataclass(frozen=True)
class Shard:
    """Bytes in a weight file: `file` is an index into Manifest.files, `offset` a multiple of 4096."""

    file: int
    offset: int
    nbytes: int
    sha256: str


@dataclass(frozen=True)
class Weight:
    """A tensor on the mesh: device d = row * columns + column holds Manifest.shards[shards[d]], of `local_shape`.

    Or `file` is an index into Manifest.files, of a tensor file with the pieces of all devices; then it has no shards.
    """

    name: str
    dtype: str
    local_shape: list[int]
    shards: list[int]
    file: int | None = None


@dataclass(frozen=True)
class Geometry:
    """A video size in pixels and frames, and for each role its program, as an index into Manifest.files."""

    height: int
    width: int
    frames: int
    programs: dict[str, int]


@dataclass(frozen=True)
class Manifest:
    """Everything in the bundle. `mesh` is [rows, columns]; `step_capacity` the rows of the step tables."""

    format_version: int
    target: str
    mesh: list[int]
    dtype: str
    step_capacity: int
    text_length: int
    model: dict[str, Plain]
    checkpoint: dict[str, str]
    versions: dict[str, str]
    geometries: list[Geometry]
    weights: list[Weight]
    shards: list[Shard]
    files: list[File]
    created_by: str
