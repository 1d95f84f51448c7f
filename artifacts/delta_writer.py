"""Writes what makes one bundle of another: the factors of its LoRAs, and weights whose bytes differ otherwise."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from mochi_aot.artifacts.delta_checks import check_delta, check_fits
from mochi_aot.artifacts.delta_schema import Delta, Factor, LoraRecord, Product, TunedWeight
from mochi_aot.artifacts.envelope import has_magic, pack
from mochi_aot.artifacts.errors import BundleError, BundleExistsError, os_errors
from mochi_aot.artifacts.integrity import bundle_id, hash_bytes, hash_shards
from mochi_aot.artifacts.layout import (
    DELTA_MAGIC,
    DELTA_PATH,
    TOKENIZER_PATH,
    WEIGHT_FILE_BYTES,
    align,
    factor_path,
    weight_path,
)
from mochi_aot.artifacts.low_rank import factor_bytes
from mochi_aot.artifacts.reader import Bundle
from mochi_aot.artifacts.regular_file import open_regular
from mochi_aot.artifacts.schema import File, Manifest, Shard, Weight
from mochi_aot.artifacts.staging import StagedFolder
from mochi_aot.artifacts.weight_file import WeightFile, link_or_copy

_REMEDY = "compile both with the same options and version, the second with --reuse"
# What must be the same in both bundles, so that programs of the one run with weights of the other.
_SAME = (
    *("target", "mesh", "mesh_settings", "ttnn", "dtype", "weights_dtype", "links_dtype"),
    *("step_capacity", "text_length", "model"),
)


@dataclass(frozen=True)
class WrittenDelta:
    """A delta that was written: its id and its style's, how many weights have products added and how many are others,
    and its bytes."""

    id: str
    style: str
    tuned: int
    replaced: int
    nbytes: int


def write_delta(base: Bundle, style: Bundle, path: Path, force: bool, created_by: str) -> WrittenDelta:
    """Write to the folder `path` what makes `style` of `base`. It appears whole or not at all.

    Raise BundleError for bundles that differ in more than their weights, or in nothing, and for what cannot be written.
    """
    check_same_programs(base, style)
    changed = [name for name in base.weights if base.content(name) != style.content(name)]
    if not changed:
        raise BundleError(f"{style.path} has the same weights as {base.path}: there is nothing for a delta to hold")
    record = style.loras()
    tuned = [] if record is None else _tuned(base, record, changed)
    products = {weight.name for weight in tuned}

    def fill(contents: _Contents) -> list[TunedWeight]:
        moved = []
        if record is not None and tuned:
            moved = contents.add_factors(_factor_data(style, record), record, tuned)
        for name in changed:
            if name not in products:
                contents.add_weight(style, style.weights[name])
        return moved

    return _written(base, style.id, style.manifest.checkpoint, fill, path, force, created_by)


def write_lora_delta(
    base: Bundle, record: LoraRecord, data: bytes, checkpoint: dict[str, str], path: Path, force: bool, created_by: str
) -> WrittenDelta:
    """Write to the folder `path` a delta that adds the products of a record to `base`; `data` are its factors, and
    `checkpoint` says what the sum is made of. There is no bundle of that style. Raise BundleError."""
    tuned = [replace(weight, source="") for weight in record.weights]
    return _written(base, "", checkpoint, lambda c: c.add_factors(data, record, tuned), path, force, created_by)


def _written(
    base: Bundle,
    style: str,
    checkpoint: dict[str, str],
    fill: "Callable[[_Contents], list[TunedWeight]]",
    path: Path,
    force: bool,
    created_by: str,
) -> WrittenDelta:
    """Write a delta whose files `fill` writes; it returns the weights to which products are added."""
    staged = StagedFolder(path.absolute(), force, check=_check_place)
    try:
        staged.create()
        contents = _Contents(staged.folder)
        tuned = fill(contents)
        contents.finish()
        delta = Delta(
            base.id,
            style,
            checkpoint,
            contents.factors,
            tuned,
            contents.weights,
            contents.shards,
            [file for file in contents.files if file is not None],
            created_by,
        )
        check_delta(delta, "delta")
        check_fits(delta, base.manifest, "delta")
        data = pack(DELTA_MAGIC, delta, "delta")
        with os_errors(f"write {path}"):
            (staged.folder / DELTA_PATH).write_bytes(data)
        staged.publish()
    finally:
        staged.discard()
    nbytes = len(data) + sum(file.nbytes for file in delta.files)
    return WrittenDelta(bundle_id(data), style, len(tuned), len(delta.weights), nbytes)


def check_same_programs(base: Bundle, style: Bundle) -> None:
    """Raise BundleError unless two bundles differ in weights alone."""
    for name in _SAME:
        before, after = (getattr(bundle.manifest, name) for bundle in (base, style))
        if before != after:
            told = f", {before} and {after}" if isinstance(before, str | int) else ""
            raise BundleError(f"{base.path} and {style.path} differ in {name}{told}: {_REMEDY}")
    if _programs(base.manifest) != _programs(style.manifest):
        raise BundleError(f"{base.path} and {style.path} have different programs or geometries: {_REMEDY}")
    if base.weights.keys() != style.weights.keys():
        raise BundleError(f"{base.path} and {style.path} have weights of different names: {_REMEDY}")


def _programs(manifest: Manifest) -> object:
    files = manifest.files
    tokenizer = [file.blake3 for file in files if file.path == TOKENIZER_PATH]
    return tokenizer, [
        (g.height, g.width, g.frames, {role: files[index].blake3 for role, index in g.programs.items()})
        for g in manifest.geometries
    ]


def _tuned(base: Bundle, record: LoraRecord, changed: list[str]) -> list[TunedWeight]:
    """Return the weights that products make of the base's own, as their sources tell."""
    wanted = set(changed)
    return [
        replace(weight, source="")
        for weight in record.weights
        if weight.name in wanted and weight.source == base.weights[weight.name].source
    ]


class _Contents:
    """What is written so far, in the delta's folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.factors: list[Factor] = []
        self.weights: list[Weight] = []
        self.shards: list[Shard] = []
        self.files: list[File | None] = []
        self._placed: dict[str, int] = {}  # hash of a shard -> its index
        self._tensors: dict[str, int] = {}
        self._open: tuple[int, WeightFile] | None = None

    def add_factors(self, stored: bytes, record: LoraRecord, tuned: list[TunedWeight]) -> list[TunedWeight]:
        """Write those of the `stored` factors that these weights need; return these with the indices that they have
        here."""
        used = sorted({index for weight in tuned for p in weight.products for index in (p.up, p.down)})
        data, renamed = bytearray(), {}
        for index in used:
            factor = record.factors[index]
            renamed[index] = len(self.factors)
            self.factors.append(replace(factor, offset=len(data)))
            data += stored[factor.offset : factor.offset + factor_bytes(factor)]
        digest = hash_bytes(data)
        self._write(factor_path(digest), bytes(data))
        self.files.append(File(factor_path(digest), len(data), digest))

        def moved(product: Product) -> Product:
            return replace(product, up=renamed[product.up], down=renamed[product.down])

        return [replace(weight, products=[moved(product) for product in weight.products]) for weight in tuned]

    def add_weight(self, style: Bundle, weight: Weight) -> None:
        """Write a whole weight of the style."""
        if weight.file is not None:
            self.weights.append(replace(weight, file=self._add_tensor(style, weight.file), source=""))
            return
        indices = {index: self._add_shard(style, index) for index in dict.fromkeys(weight.shards)}
        self.weights.append(replace(weight, shards=[indices[index] for index in weight.shards], source=""))

    def finish(self) -> None:
        """Complete the file of shards that is open."""
        if self._open is None:
            return
        index, file = self._open
        with os_errors(f"write {self._folder.name}"):
            file.finish()
            digest = hash_shards(shard for shard in self.shards if shard.file == index)
            file.path.rename(self._folder / weight_path(digest))
        self.files[index] = File(weight_path(digest), file.nbytes, digest)
        self._open = None

    def _add_shard(self, style: Bundle, index: int) -> int:
        shard = style.manifest.shards[index]
        if shard.blake3 not in self._placed:
            style.check_part(shard)
            place, file = self._file(shard.nbytes)
            with os_errors(f"write {self._folder.name}"):
                offset = file.append(style.shard_bytes(index))
            self._placed[shard.blake3] = len(self.shards)
            self.shards.append(Shard(place, offset, shard.nbytes, shard.blake3))
        return self._placed[shard.blake3]

    def _file(self, nbytes: int) -> tuple[int, WeightFile]:
        if self._open is not None and align(self._open[1].nbytes) + nbytes > WEIGHT_FILE_BYTES:
            self.finish()
        if self._open is None:
            place = self._folder / weight_path(f"open-{len(self.files)}")
            with os_errors(f"write {self._folder.name}"):
                place.parent.mkdir(exist_ok=True)
            self._open = len(self.files), WeightFile(place)
            self.files.append(None)
        return self._open

    def _add_tensor(self, style: Bundle, index: int) -> int:
        file = style.manifest.files[index]
        if file.blake3 not in self._tensors:
            place = self._folder / file.path
            with os_errors(f"write {self._folder.name}"):
                place.parent.mkdir(exist_ok=True)
                link_or_copy(style.place(index), place)
            self._tensors[file.blake3] = len(self.files)
            self.files.append(file)
        return self._tensors[file.blake3]

    def _write(self, path: str, data: bytes) -> None:
        place = self._folder / path
        with os_errors(f"write {self._folder.name}"):
            place.parent.mkdir(exist_ok=True)
            place.write_bytes(data)


def _factor_data(style: Bundle, record: LoraRecord) -> bytes:
    """Return a bundle's file of factors, checked against its hash."""
    index = next(i for i, file in enumerate(style.manifest.files) if file.path == factor_path(record.data))
    file = style.manifest.files[index]
    style.check_part(Shard(index, 0, file.nbytes, file.blake3))
    return bytes(style.file_bytes(index))


def _check_place(path: Path, force: bool) -> None:
    """Raise BundleError unless a delta can stand at `path`, if need be, with `force`, in the place of another."""
    if path.name in ("", "..") or not path.parent.is_dir():
        raise BundleError(f"{path}: expected a name for a delta, in a folder that is there")
    if not path.exists() and not path.is_symlink():
        return
    if not force:
        raise BundleExistsError(f"{path} exists; choose another path, or use --force to replace a delta")
    if not _is_delta(path):
        raise BundleExistsError(f"{path} exists and is no delta, so --force does not replace it; choose another path")


def _is_delta(path: Path) -> bool:
    if path.is_symlink():
        return False
    try:
        with open_regular(path / DELTA_PATH) as file:
            return has_magic(DELTA_MAGIC, file.read(64))
    except OSError:
        return False
