"""In what two bundles differ: field by field, program by program, weight by weight."""

import difflib
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from mochi_aot.artifacts.reader import Bundle
from mochi_aot.artifacts.schema import Geometry, Manifest, Weight
from mochi_aot.tools.commands.listing import listing

FIELDS_APART = (
    "geometries",
    "weights",
    "shards",
    "files",
    "kernels",
    "notices",
)  # which are compared by what they stand for
type Pieces = tuple[str, ...]  # hashes of what each device holds of a weight, or of its tensor file


@dataclass(frozen=True)
class FieldChange:
    """A field of the manifest that only one bundle has, where the other's value is None, or that is another."""

    field: str
    before: Any
    after: Any


@dataclass(frozen=True)
class ProgramChange:
    """A program of a geometry that is another, or that one bundle alone has; `lines` is a unified diff of listings."""

    geometry: str
    role: str
    plans: tuple[str | None, str | None]
    lines: list[str]


@dataclass(frozen=True)
class WeightChanges:
    """Weights by name: how many are the same, and which are not.

    `moved` have the same bytes at another place of the bundle's files, `changed` other bytes, dtype or shape.
    `bytes_to_move` are those of files and shards that B has and A lacks, by their hashes.
    """

    same: int
    moved: list[str]
    changed: list[str]
    added: list[str]
    missing: list[str]
    bytes_to_move: int


@dataclass(frozen=True)
class Difference:
    """What is other in B than in A. `ids` are both bundles'."""

    ids: tuple[str, str]
    fields: list[FieldChange]
    programs: list[ProgramChange]
    weights: WeightChanges

    @property
    def is_empty(self) -> bool:
        """Whether the bundles are the same, by their ids: equal ids have equal bytes."""
        return self.ids[0] == self.ids[1]


def difference(before: Bundle, after: Bundle) -> Difference:
    """Return in what `after` differs. Programs are read, weights compared by the hashes in the manifests.

    Raise BundleError for a program that is not what was written.
    """
    fields = list(_changes("", _fields(before.manifest), _fields(after.manifest)))
    return Difference(
        (before.id, after.id), fields, _program_changes(before, after), _weight_changes(before.manifest, after.manifest)
    )


def _fields(manifest: Manifest) -> dict[str, Any]:
    """Return the fields that are compared as they are; what it names by index, by hash."""
    fields = {name: value for name, value in asdict(manifest).items() if name not in FIELDS_APART}
    kernels = manifest.kernels
    if kernels is not None:
        fields["kernels"] = {**asdict(kernels), "file": manifest.files[kernels.file].blake3}
    fields["notices"] = {name: manifest.files[index].blake3 for name, index in manifest.notices.items()}
    peaks = {_name(geometry): geometry.dram_peaks for geometry in manifest.geometries}
    return {**fields, "geometries": {name: {"dram_peaks": peak} for name, peak in peaks.items()}}


def _changes(path: str, before: Any, after: Any) -> Iterator[FieldChange]:
    if isinstance(before, dict) and isinstance(after, dict):
        for name in dict.fromkeys((*before, *after)):
            yield from _changes(f"{path}.{name}" if path else name, before.get(name), after.get(name))
    elif before != after:
        yield FieldChange(path, before, after)


def _name(geometry: Geometry) -> str:
    return f"{geometry.height}x{geometry.width}x{geometry.frames}"


def _program_changes(before: Bundle, after: Bundle) -> list[ProgramChange]:
    """Return programs that differ, each pair of them once: geometries may share programs."""
    found, told = [], set()
    for (geometry, role), (old, new) in _paired(_programs(before), _programs(after)).items():
        hashes = tuple(
            bundle.manifest.files[g.programs[role]].blake3 if g else None for bundle, g in ((before, old), (after, new))
        )
        if hashes[0] == hashes[1] or (role, hashes) in told:
            continue
        told.add((role, hashes))
        texts = [_listing(before, role, old), _listing(after, role, new)]
        plans = tuple(bundle.program(role, g).plan if g else None for bundle, g in ((before, old), (after, new)))
        found.append(ProgramChange(geometry, role, (plans[0], plans[1]), _unified(f"{geometry}/{role}", *texts)))
    return found


def _programs(bundle: Bundle) -> dict[tuple[str, str], Geometry]:
    return {(_name(g), role): g for g in bundle.manifest.geometries for role in g.programs}


def _paired[K, V](before: Mapping[K, V], after: Mapping[K, V]) -> dict[K, tuple[V | None, V | None]]:
    return {key: (before.get(key), after.get(key)) for key in dict.fromkeys((*before, *after))}


def _listing(bundle: Bundle, role: str, geometry: Geometry | None) -> list[str]:
    return [] if geometry is None else listing(bundle.program(role, geometry), bundle.weights).splitlines()


def _unified(name: str, before: list[str], after: list[str]) -> list[str]:
    return list(difflib.unified_diff(before, after, f"a/{name}", f"b/{name}", n=1, lineterm=""))


def _weight_changes(before: Manifest, after: Manifest) -> WeightChanges:
    old, new = ({weight.name: weight for weight in manifest.weights} for manifest in (before, after))
    same, moved, changed = 0, [], []
    for name in (name for name in old if name in new):
        if _held(before, old[name]) != _held(after, new[name]):
            changed.append(name)
        elif _places(before, old[name]) != _places(after, new[name]):
            moved.append(name)
        else:
            same += 1
    added = [name for name in new if name not in old]
    missing = [name for name in old if name not in new]
    return WeightChanges(same, moved, changed, added, missing, bytes_to_move(before, after))


def _held(manifest: Manifest, weight: Weight) -> tuple[str, tuple[int, ...], Pieces]:
    if weight.file is not None:
        pieces: Pieces = (manifest.files[weight.file].blake3,)
    else:
        pieces = tuple(manifest.shards[index].blake3 for index in weight.shards)
    return weight.dtype, tuple(weight.local_shape), pieces


def _places(manifest: Manifest, weight: Weight) -> list[tuple[str, int]]:
    return [(manifest.files[s.file].blake3, s.offset) for s in (manifest.shards[index] for index in weight.shards)]


def bytes_to_move(before: Manifest, after: Manifest) -> int:
    """Return the bytes of `after` that a host with `before` lacks: files by hash, and of files of shards the shards."""
    there = {file.blake3 for file in before.files} | {shard.blake3 for shard in before.shards}
    sharded = {shard.file for shard in after.shards}
    lacking = {
        file.blake3: file.nbytes
        for index, file in enumerate(after.files)
        if index not in sharded and file.blake3 not in there
    }
    lacking |= {
        shard.blake3: shard.nbytes
        for shard in after.shards
        if shard.blake3 not in there and after.files[shard.file].blake3 not in there
    }
    return sum(lacking.values())
