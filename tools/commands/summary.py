"""What is in a bundle, as plain data: the manifest and the programs, added up. Needs nothing but the artifacts."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from mochi_aot.artifacts.layout import WEIGHT_FOLDER
from mochi_aot.artifacts.reader import Bundle
from mochi_aot.artifacts.roles import ROLES
from mochi_aot.artifacts.schema import Geometry, Manifest, ProgramStats, Weight
from mochi_aot.artifacts.tiles import device_bytes

SUMMED_UP = ("geometries", "weights", "shards", "files")  # the manifest's lists


@dataclass(frozen=True)
class ProgramSummary(ProgramStats):
    """One program of one geometry, and the cost of one run on one device.

    `dram_peak`: the most bytes of its memory that are taken then, with all that is resident; None if it is not known.
    """

    role: str
    plan: str
    instructions: int
    dram_peak: int | None


@dataclass(frozen=True)
class GeometrySummary:
    """A video size, and its programs in the order in which they run.

    `height` and `width` are in pixels.
    """

    height: int
    width: int
    frames: int
    programs: list[ProgramSummary]


@dataclass(frozen=True)
class WeightSummary:
    """One weight: `shards` distinct pieces serve all devices; None if a tensor file of its own holds it."""

    name: str
    dtype: str
    local_shape: list[int]
    bytes_per_device: int
    shards: int | None


@dataclass(frozen=True)
class WeightTotals:
    """All weights. `references` counts a shard once for each weight and device that it serves."""

    count: int
    bytes_per_device: int
    bytes_on_disk: int
    shards: int
    references: int
    tensor_files: int


@dataclass(frozen=True)
class BundleSummary:
    """Everything that is known without reading the weights."""

    id: str
    manifest: Manifest
    geometries: list[GeometrySummary]
    totals: WeightTotals
    weights: list[WeightSummary]

    def plain(self) -> dict[str, Any]:
        """Return what JSON says: the manifest, with the summaries in the place of its lists."""
        fields = {name: value for name, value in asdict(self.manifest).items() if name not in SUMMED_UP}
        summaries: dict[str, Sequence[Any]] = {"geometries": self.geometries, "weights": self.weights}
        lists = {name: [asdict(item) for item in items] for name, items in summaries.items()}
        return {"id": self.id, **fields, "totals": asdict(self.totals), **lists}


def summarise(bundle: Bundle) -> BundleSummary:
    """Read every program and add up. Raise BundleError for a program that is not what was written."""
    manifest = bundle.manifest
    return BundleSummary(
        id=bundle.id,
        manifest=manifest,
        geometries=[_geometry(bundle, geometry) for geometry in manifest.geometries],
        totals=_totals(bundle),
        weights=[_weight(weight) for weight in manifest.weights],
    )


def _geometry(bundle: Bundle, geometry: Geometry) -> GeometrySummary:
    programs = [_program(bundle, geometry, role) for role in ROLES if role in geometry.programs]
    return GeometrySummary(geometry.height, geometry.width, geometry.frames, programs)


def _program(bundle: Bundle, geometry: Geometry, role: str) -> ProgramSummary:
    program = bundle.program(role, geometry)
    return ProgramSummary(
        role=role,
        plan=program.plan,
        instructions=len(program.instructions),
        **asdict(program.stats),
        dram_peak=geometry.dram_peaks.get(role),
    )


def _weight(weight: Weight) -> WeightSummary:
    shards = None if weight.file is not None else len(set(weight.shards))
    size = _device_bytes(weight)
    return WeightSummary(weight.name, weight.dtype, weight.local_shape, size, shards)


def _device_bytes(weight: Weight) -> int:
    """Return the bytes that a device holds of a weight: chips hold tensor files in tiles."""
    return round(device_bytes(weight.dtype, weight.local_shape, "row_major" if weight.file is None else "tile"))


def _totals(bundle: Bundle) -> WeightTotals:
    manifest = bundle.manifest
    return WeightTotals(
        count=len(manifest.weights),
        bytes_per_device=sum(map(_device_bytes, manifest.weights)),
        bytes_on_disk=sum(file.nbytes for file in manifest.files if file.path.startswith(f"{WEIGHT_FOLDER}/")),
        shards=len(manifest.shards),
        references=sum(len(weight.shards) for weight in manifest.weights),
        tensor_files=sum(weight.file is not None for weight in manifest.weights),
    )
