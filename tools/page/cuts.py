"""How weights are cut over the mesh: from their names, and from which shards devices share; and weights alike."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from mochi_aot.artifacts.schema import Manifest, Weight
from mochi_aot.artifacts.tiles import device_bytes

# As compiler/lower/weights.py writes names: what it is, its cuts (axis of the mesh, dim, chunk), dtype, what it is
# joined with, and for ttnn how it is prepared.
_NAME = re.compile(
    r"(?P<origin>.+?)(?P<cuts>(?:/[01]:\d{1,3}:\d{1,18})*)/(?P<dtype>[a-z0-9_]+)"
    r"(?:\+(?P<more>\d+):[0-9a-f]{16})?(?:\|(?P<form>[^|]*)\|[^|]*\|[^|]*)?"
)
_CUT = re.compile(r"/([01]):(\d+):(\d+)")


@dataclass(frozen=True)
class Cut:
    """A mesh axis that holds a dimension in pieces of `chunk`."""

    axis: int
    dim: int
    chunk: int


@dataclass(frozen=True)
class Pattern:
    """What each device holds: `pieces` has a number for each, equal for equal pieces, in order of the first device.

    `axes` are the mesh's axes that cut it, with whether they cut the last dimension; None where the name does not tell.
    """

    pieces: tuple[int, ...]
    axes: tuple[tuple[int, bool], ...] | None

    @property
    def count(self) -> int:
        """Distinct pieces."""
        return len(set(self.pieces))

    @property
    def copies(self) -> int:
        """How many devices hold the first piece."""
        return self.pieces.count(self.pieces[0])


@dataclass(frozen=True)
class Alike:
    """Weights that differ in the number of a layer alone: how many, their name with * for it, what a device holds of
    each, how they are cut and, for ttnn, prepared. `cuts` is None where their names do not tell."""

    label: str
    count: int
    dtype: str
    local_shape: tuple[int, ...]
    bytes_per_device: int
    cuts: tuple[Cut, ...] | None
    form: str
    pattern: Pattern


@dataclass(frozen=True)
class _Named:
    label: str
    cuts: tuple[Cut, ...] | None
    form: str


def alike(manifest: Manifest) -> list[Alike]:
    """Return all weights, those that are alike together, in the order of their first use."""
    rows, columns = manifest.mesh
    groups: dict[tuple[_Named, str, tuple[int, ...], Pattern], list[Weight]] = {}
    for weight in manifest.weights:
        named = _named(weight.name)
        pattern = _pattern(weight, named.cuts, (rows, columns))
        groups.setdefault((named, weight.dtype, tuple(weight.local_shape), pattern), []).append(weight)
    made = []
    for (named, dtype, shape, pattern), weights in groups.items():
        first = weights[0]
        size = device_bytes(first.dtype, first.local_shape, "row_major" if first.file is None else "tile")
        made.append(
            Alike(
                named.label,
                len(weights),
                dtype,
                shape,
                round(size),
                named.cuts,
                named.form,
                pattern,
            )
        )
    return made


def _named(name: str) -> _Named:
    match = _NAME.fullmatch(name)
    if match is None:
        return _Named(name, None, "")
    origin = match["origin"]
    label = "constant" if origin.startswith("constant:") else re.sub(r"(?<=\.)\d+(?=\.)", "*", origin)
    more = f" + {match['more']} joined" if match["more"] and match["more"] != "0" else ""
    cuts = tuple(Cut(*map(int, found)) for found in _CUT.findall(match["cuts"]))
    return _Named(label + more, cuts, match["form"] or "")


def _pattern(weight: Weight, cuts: tuple[Cut, ...] | None, mesh: tuple[int, int]) -> Pattern:
    """Return what devices hold by the weight's cuts, or if its name does not tell them by its shards."""
    devices = range(mesh[0] * mesh[1])
    if cuts is not None:
        axes = sorted({cut.axis for cut in cuts})
        held = [tuple(divmod(device, mesh[1])[axis] for axis in axes) for device in devices]
        last = max((cut.dim for cut in cuts), default=0)
        return Pattern(_numbered(held), tuple((cut.axis, _across(cut, weight, last, len(axes))) for cut in cuts))
    return Pattern(_numbered(weight.shards or list(devices)), None if weight.file is not None else ())


def _across(cut: Cut, weight: Weight, last: int, axes: int) -> bool:
    """Return whether to draw the cut across the width: of the last dimension, or of the later one of two."""
    return cut.dim == last if axes > 1 else cut.dim >= max(len(weight.local_shape) - 1, 1)


def _numbered(held: Sequence[object]) -> tuple[int, ...]:
    numbers: dict[object, int] = {}
    return tuple(numbers.setdefault(piece, len(numbers)) for piece in held)


def patterns(groups: Iterable[Alike]) -> dict[Pattern, list[Alike]]:
    """Return the ways of cutting, each with the weights that are cut so, the one with the most bytes first."""
    found: dict[Pattern, list[Alike]] = {}
    for group in groups:
        found.setdefault(group.pattern, []).append(group)
    return dict(sorted(found.items(), key=lambda item: -sum(g.bytes_per_device * g.count for g in item[1])))
