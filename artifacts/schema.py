"""What a bundle holds, as plain data. The codec writes exactly these fields; docs/format.md says what they mean."""

from dataclasses import dataclass, field

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
    """A value that stands for the weight of this name in the manifest; dtype and shape on each device are as there."""

    name: str
    value: int
    dtype: str
    local_shape: list[int]


@dataclass(frozen=True)
class ProgramStats:
    """Cost of one run on one device; `collectives` counts the collective ops by name."""

    flops: int
    weight_bytes: int
    collective_bytes: int
    collectives: dict[str, int]


@dataclass(frozen=True)
class Program:
    """An instruction list in execution order, the same for all devices; `mesh` is [rows, columns], `plan` names how it
    was partitioned."""

    name: str
    mesh: list[int]
    plan: str
    inputs: list[ProgramInput]
    weights: list[ProgramWeight]
    outputs: list[ProgramOutput]
    instructions: list[Instruction]
    stats: ProgramStats


@dataclass(frozen=True)
class File:
    """A file of the bundle: its path with forward slashes, its size and the hash of its bytes.

    A weight file's hash is that of the list of its shards.
    """

    path: str
    nbytes: int
    blake3: str


@dataclass(frozen=True)
class Shard:
    """Bytes in a weight file: `file` is an index into Manifest.files, `offset` a multiple of 4096."""

    file: int
    offset: int
    nbytes: int
    blake3: str


@dataclass(frozen=True)
class Weight:
    """A tensor on the mesh: device d = row * columns + column holds Manifest.shards[shards[d]], of `local_shape`.

    Or `file` is an index into Manifest.files, of a tensor file with the pieces of all devices; then it has no shards.
    `source` is a hash of what it was made of and how, or empty: equal sources give equal bytes.
    """

    name: str
    dtype: str
    local_shape: list[int]
    shards: list[int]
    file: int | None = None
    source: str = ""


@dataclass(frozen=True)
class Geometry:
    """A video size in pixels and frames, and for each role its program, as an index into Manifest.files.

    `dram_peaks` has for roles that were run dry the most bytes of a device's memory that were taken at a time.
    """

    height: int
    width: int
    frames: int
    programs: dict[str, int]
    dram_peaks: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class MeshSettings:
    """The mesh that the programs are for, and how it is opened.

    `arch` is the architecture of its chips, as ttnn names it: core grids and sizes of memory in the programs are its.
    `fabric`, of the links between devices, is none or 1d; `l1_small_bytes` are set apart of a core's memory, for
    semaphores; `trace_bytes` of a device's, for the commands of recorded programs.
    """

    arch: str
    fabric: str
    l1_small_bytes: int
    trace_bytes: int


@dataclass(frozen=True)
class Kernels:
    """Kernels built ahead of time: `file` is an index into Manifest.files, of an archive with `count` of them.

    The other fields are what they were built for and by, and where they are found again: whether a `stand_in` for the
    compiler made them (then they do nothing, and are for mocked meshes only), the version of `ttnn`, what the
    `compiler` says it is, the path of ttnn's runtime `root`, and `build_keys`, the names that ttnn has for the kind of
    device and its settings.
    """

    file: int
    count: int
    stand_in: bool
    ttnn: str
    compiler: str
    root: str
    build_keys: list[str]


@dataclass(frozen=True)
class Manifest:
    """Everything in the bundle. `mesh` is [rows, columns]; `step_capacity` the rows of the step tables.

    `dtype` is of activations, `weights_dtype` of matrices, for torch float8 or `dtype`; `links_dtype` of what
    devices send each other in a denoising step. `mesh_settings` are for ttnn, nothing for torch; `ttnn` is the
    version of ttnn that the programs were lowered for, or empty for torch; `kernels` is nothing where none were
    built ahead of time. `notices` are licences and cards of the checkpoint, by their paths in it, as indices into
    `files`.
    """

    format_version: int
    target: str
    mesh: list[int]
    mesh_settings: MeshSettings | None
    ttnn: str
    dtype: str
    weights_dtype: str
    links_dtype: str
    step_capacity: int
    text_length: int
    model: dict[str, Plain]
    checkpoint: dict[str, str]
    versions: dict[str, str]
    geometries: list[Geometry]
    weights: list[Weight]
    shards: list[Shard]
    files: list[File]
    kernels: Kernels | None
    notices: dict[str, int]
    created_by: str
