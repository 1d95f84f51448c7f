"""Opens a delta, and a bundle with a delta: what is told apart from any other bundle only by its weights."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from mochi_aot.artifacts.delta_checks import check_delta, check_fits
from mochi_aot.artifacts.delta_schema import Delta, TunedWeight
from mochi_aot.artifacts.envelope import unpack
from mochi_aot.artifacts.errors import BundleError, os_errors
from mochi_aot.artifacts.integrity import bundle_id, hash_bytes, new_hash
from mochi_aot.artifacts.layout import DELTA_MAGIC, DELTA_PATH, MAX_METADATA_BYTES, factor_path
from mochi_aot.artifacts.low_rank import addition, factor_array
from mochi_aot.artifacts.pieces import Checker, pieces
from mochi_aot.artifacts.reader import Bundle, check_size
from mochi_aot.artifacts.regular_file import open_regular, read_blocks
from mochi_aot.artifacts.schema import File, Manifest, Shard, Weight

_REMEDY = "; copy the delta or make it again"


@dataclass(frozen=True)
class OpenDelta:
    """A delta on disk, whose factors are in memory. `id` is the SHA-256 of its delta.msgpack, which names every other
    byte by its hash."""

    path: Path
    delta: Delta
    id: str
    factors: Sequence[np.ndarray]

    @classmethod
    def open(cls, path: str | Path) -> "OpenDelta":
        """Read and validate a delta, its factors included, and look that its other files have their sizes.

        Raise BundleError for what is no whole delta.
        """
        path = Path(path)
        data = _read_header(path)
        where = str(path / DELTA_PATH)
        delta = unpack(DELTA_MAGIC, Delta, data, where)
        check_delta(delta, where)
        factors: list[np.ndarray] = []
        for file in delta.files:
            if file.path == factor_path(file.blake3):
                read = memoryview(_read_factors(path / file.path, file))
                factors = [factor_array(factor, read) for factor in delta.factors]
            else:
                check_size(path / file.path, file, _REMEDY)
        return cls(path, delta, bundle_id(data), factors)

    def verify(self) -> None:
        """Hash every byte. Raise BundleError naming the first file that is not as written."""
        for file, parts in zip(self.delta.files, pieces(self.delta), strict=True):
            place = self.path / file.path
            checker = Checker(parts, str(place))
            with os_errors(f"read {place}"), open_regular(place, buffering=0) as stream:
                for block in read_blocks(stream):
                    checker.update(block)
            checker.finish()

    def digest(self, tuned: TunedWeight) -> str:
        """Return a hash of what is added to a weight, every number of it."""
        hashed = new_hash()
        for product in tuned.products:
            hashed.update(repr((tuned.form, replace(product, up=0, down=0))).encode())
            for index in (product.up, product.down):
                hashed.update(np.ascontiguousarray(self.factors[index]).data.cast("B"))
        return hashed.hexdigest()


class StyledBundle(Bundle):
    """A bundle with a delta: programs and most weights are the base's, and files of the delta follow the base's.

    `id` is the delta's, which names the base's and every number of its own.
    """

    def __init__(self, base: Bundle, opened: OpenDelta) -> None:
        """Raise BundleError for a delta of another bundle."""
        where = str(opened.path)
        if opened.delta.base != base.id:
            raise BundleError(
                f"{where} is for the bundle {opened.delta.base}, and {base.path} is {base.id}: "
                "run it with that one, or make a delta for this one"
            )
        check_fits(opened.delta, base.manifest, where)
        super().__init__(base.path, _with_delta(base.manifest, opened.delta), opened.id)
        self.base, self.opened = base, opened
        self._own = len(base.manifest.files)  # the first file of the delta
        self._programs = base._programs
        self.tuned = {weight.name: weight for weight in opened.delta.tuned}

    def for_device(self, device: int) -> "StyledBundle":
        """See Bundle."""
        bundle = StyledBundle(self.base.for_device(device), self.opened)
        bundle._device = device
        return bundle

    def place(self, index: int) -> Path:
        """See Bundle."""
        if index < self._own:
            return self.base.place(index)
        return self.opened.path / self.manifest.files[index].path

    def file_bytes(self, index: int) -> memoryview:
        """See Bundle. The base's files are mapped once for all deltas."""
        return self.base.file_bytes(index) if index < self._own else super().file_bytes(index)

    def check_unchanged(self) -> None:
        """See Bundle."""
        self.base.check_unchanged()
        super().check_unchanged()

    def addition(self, name: str, coordinates: Sequence[int]) -> np.ndarray:
        """See Bundle."""
        return addition(self.tuned[name], self.opened.factors, coordinates, self.weights[name].local_shape)

    def content(self, name: str) -> tuple[str, ...]:
        """See Bundle."""
        tuned = self.tuned.get(name)
        return super().content(name) + (() if tuned is None else (self.opened.digest(tuned),))

    def _check_map(self, index: int) -> None:
        self.base._check_map(index) if index < self._own else super()._check_map(index)


def with_delta(bundle: Bundle, delta: Path | str | None) -> Bundle:
    """Return a bundle as a delta makes it, or as it is without one. Raise BundleError."""
    return bundle if delta is None else StyledBundle(bundle, OpenDelta.open(delta))


def _with_delta(base: Manifest, delta: Delta) -> Manifest:
    """Return the base's manifest with the delta's weights in their places; files and shards follow the base's."""
    files, shards = len(base.files), len(base.shards)
    own = {weight.name: _moved(weight, files, shards) for weight in delta.weights}
    return replace(
        base,
        checkpoint=delta.checkpoint,
        weights=[own.get(weight.name, weight) for weight in base.weights],
        shards=[*base.shards, *(Shard(s.file + files, s.offset, s.nbytes, s.blake3) for s in delta.shards)],
        files=[*base.files, *delta.files],
    )


def _moved(weight: Weight, files: int, shards: int) -> Weight:
    file = None if weight.file is None else weight.file + files
    return replace(weight, shards=[index + shards for index in weight.shards], file=file)


def _read_header(path: Path) -> bytes:
    place = path / DELTA_PATH
    with os_errors(f"read {place}"):
        if not place.is_file():
            seen = f"has no {DELTA_PATH}" if path.is_dir() else "is no folder" if path.exists() else "does not exist"
            raise BundleError(f"{path} {seen}; expected a delta, as mochi-bundle delta writes it")
        with open_regular(place) as stream:
            return stream.read(MAX_METADATA_BYTES + 1)


def _read_factors(place: Path, file: File) -> bytes:
    check_size(place, file, _REMEDY)
    with os_errors(f"read {place}"), open_regular(place) as stream:
        data = stream.read(file.nbytes + 1)
    if hash_bytes(data, all_processors=True) != file.blake3:
        raise BundleError(f"{place}: the bytes do not match their hash{_REMEDY}")
    return data
