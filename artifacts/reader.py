"""Opens a bundle: validates the manifest, compares the sizes of files, maps weights; nothing is parsed per tensor."""

import mmap
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property, partial
from pathlib import Path
from threading import Event

import numpy as np

from mochi_aot.artifacts.delta_checks import check_record
from mochi_aot.artifacts.delta_schema import LoraRecord, TunedWeight
from mochi_aot.artifacts.envelope import unpack
from mochi_aot.artifacts.errors import BundleError, os_errors
from mochi_aot.artifacts.integrity import bundle_id, hash_bytes, hash_file
from mochi_aot.artifacts.layout import (
    DELTA_PATH,
    LORA_MAGIC,
    MANIFEST_MAGIC,
    MANIFEST_PATH,
    MAX_METADATA_BYTES,
    PROGRAM_MAGIC,
    TOKENIZER_PATH,
    lora_path,
)
from mochi_aot.artifacts.pieces import REMEDY, Checker, Piece, pieces
from mochi_aot.artifacts.regular_file import open_regular, read_blocks
from mochi_aot.artifacts.schema import File, Geometry, Manifest, Program, Shard, Weight
from mochi_aot.artifacts.validate import check_manifest, check_program_fits
from mochi_aot.artifacts.validate_program import check_program


class Bundle:
    """A bundle on disk. `id` is the SHA-256 of its manifest, which names every other byte by its hash."""

    def __init__(self, path: Path, manifest: Manifest, bundle_id: str) -> None:
        self.path, self.manifest, self.id = path, manifest, bundle_id
        self._maps: dict[int, mmap.mmap] = {}
        self._states: dict[int, tuple[int, int, int]] = {}  # of the files that were mapped, as they were then
        self._programs: dict[int, Program] = {}
        self.tuned: Mapping[str, TunedWeight] = {}  # to which a delta adds products, see delta.py
        self._device: int | None = None

    @classmethod
    def open(cls, path: str | Path) -> "Bundle":
        """Read and validate the manifest, and check that every file is there with its size. BundleError otherwise."""
        path = Path(path)
        data = _read_manifest(path)
        where = str(path / MANIFEST_PATH)
        manifest = unpack(MANIFEST_MAGIC, Manifest, data, where)
        check_manifest(manifest, where)
        for file in manifest.files:
            check_size(path / file.path, file)
        return cls(path, manifest, bundle_id(data))

    def for_device(self, device: int) -> "Bundle":
        """Return the same bundle as one device of its mesh reads it: other devices' shards are no parts of weights."""
        bundle = Bundle(self.path, self.manifest, self.id)
        bundle._device = device
        return bundle

    @cached_property
    def weights(self) -> dict[str, Weight]:
        """The weights by name, in the order of their first use."""
        return {weight.name: weight for weight in self.manifest.weights}

    def program(self, role: str, geometry: Geometry) -> Program:
        """Read, check against its hash and validate the program of a role. BundleError if any of it fails."""
        index = geometry.programs.get(role)
        if index is None:
            raise BundleError(f"{self.path}: no program {role!r}; it has {', '.join(geometry.programs)}")
        if index not in self._programs:
            self._programs[index] = self._load_program(self.manifest.files[index])
        return self._programs[index]

    def tokenizer(self) -> bytes:
        """Return the tokenizer.json, checked against its hash.

        Raise BundleError if the bundle was compiled without one.
        """
        for file in self.manifest.files:
            if file.path == TOKENIZER_PATH:
                return self._read(file)
        raise BundleError(f"{self.path}: holds no tokenizer; give prompt embeddings instead of a prompt")

    def notice(self, name: str) -> bytes:
        """Return a licence or card of the checkpoint, by its path there, checked against its hash."""
        return self._read(self.manifest.files[self.manifest.notices[name]])

    def shard_bytes(self, index: int) -> memoryview:
        """Return the bytes of a shard, read-only, mapped from the file: a page is read when it is touched."""
        shard = self.manifest.shards[index]
        return self.file_bytes(shard.file)[shard.offset : shard.offset + shard.nbytes]

    def place(self, index: int) -> Path:
        """Return where a file is, by its index into Manifest.files."""
        return self.path / self.manifest.files[index].path

    def file_bytes(self, index: int) -> memoryview:
        """Return the bytes of a file of weights, mapped in the same way, and once."""
        if index not in self._maps:
            self._maps[index] = self._map(index)
        return memoryview(self._maps[index])

    def parts(self, name: str) -> list[Shard]:
        """Return what a weight consists of: its distinct shards that are not empty, or the whole of a tensor file."""
        weight = self.weights[name]
        if weight.file is None:
            wanted = weight.shards if self._device is None else [weight.shards[self._device]]
            shards = [self.manifest.shards[index] for index in dict.fromkeys(wanted)]
            return [shard for shard in shards if shard.nbytes > 0]
        file = self.manifest.files[weight.file]
        return [Shard(weight.file, 0, file.nbytes, file.blake3)]

    def content(self, name: str) -> tuple[str, ...]:
        """Return what a weight holds, as hashes: of each device's piece, or of a tensor file. Equal ones are equal."""
        weight = self.weights[name]
        if weight.file is not None:
            return (self.manifest.files[weight.file].blake3,)
        return tuple(self.manifest.shards[index].blake3 for index in weight.shards)

    def addition(self, name: str, coordinates: Sequence[int]) -> np.ndarray:
        """Return what a delta has the device at these coordinates of the mesh add to a weight that is `tuned`: float32,
        as the device holds it."""
        raise BundleError(f"{self.path}: nothing is added to the weight {name!r}")

    def check_part(self, part: Shard) -> None:
        """Hash what `parts` gave. Raise BundleError if it is not what was written, or the file has another size now."""
        data = self.file_bytes(part.file)[part.offset : part.offset + part.nbytes]
        self._check_map(part.file)
        if hash_bytes(data, all_processors=True) != part.blake3:
            where, end = self.place(part.file), part.offset + part.nbytes
            raise BundleError(f"{where}: bytes {part.offset} to {end} do not match their hash{REMEDY}")

    def check_unchanged(self) -> None:
        """Raise BundleError if a mapped file was written to, cut or replaced since, as far as size and time tell."""
        for index, state in self._states.copy().items():  # another thread may map more files meanwhile
            place = self.place(index)
            with os_errors(f"read {place}"):
                seen = _state(place.stat())
            if seen != state:
                raise BundleError(f"{place} was changed while it was in use{REMEDY}")

    def tensor_file(self, name: str) -> Path | None:
        """Return the tensor file of a weight, its size checked again; None if the weight has shards."""
        weight = self.weights[name]
        if weight.file is None:
            return None
        place = self.place(weight.file)
        check_size(place, self.manifest.files[weight.file])
        return place

    def loras(self) -> LoraRecord | None:
        """Return the record of the LoRAs that were merged into the weights, checked against its hash and the manifest;
        None for a bundle without any. Raise BundleError if it is damaged."""
        for file in self.manifest.files:
            if file.path == lora_path(file.blake3):
                where = str(self.path / file.path)
                record = unpack(LORA_MAGIC, LoraRecord, self._read(file), where)
                check_record(record, self.manifest, where)
                return record
        return None

    def kernel_archive(self) -> Path:
        """Return the archive of kernels, checked against its hash.

        Raise BundleError if the bundle was compiled without any.
        """
        if self.manifest.kernels is None:
            raise BundleError(f"{self.path}: holds no kernels")
        file = self.manifest.files[self.manifest.kernels.file]
        self._check_hash_of(file)
        return self.path / file.path

    def verify(self) -> None:
        """Hash every byte, once, and validate every program and what is said of LoRAs.

        BundleError naming the first that is not as written.

        Two files are read at a time: while one is hashed the disk is at work for the other.
        """
        stop = Event()
        with ThreadPoolExecutor(2) as threads:
            try:
                for _ in threads.map(partial(self._verify_file, stop), self.manifest.files, pieces(self.manifest)):
                    pass
            finally:
                stop.set()  # after an error, or an interruption
        for geometry in self.manifest.geometries:
            for role in geometry.programs:
                self.program(role, geometry)
        self.loras()

    def _verify_file(self, stop: Event, file: File, file_pieces: list[Piece]) -> None:
        place = self.path / file.path
        checker = Checker(file_pieces, str(place))
        with os_errors(f"read {place}"), open_regular(place, buffering=0) as stream:
            for block in read_blocks(stream):
                if stop.is_set():
                    return
                checker.update(block)
        checker.finish()

    def _load_program(self, file: File) -> Program:
        where = str(self.path / file.path)
        program = unpack(PROGRAM_MAGIC, Program, self._read(file), where)
        check_program(program, where)
        check_program_fits(program, self.manifest, where)
        return program

    def _read(self, file: File) -> bytes:
        """Return the bytes of a small file, checked against its hash."""
        place = self.path / file.path
        if file.nbytes > MAX_METADATA_BYTES:
            raise BundleError(f"{place}: {file.nbytes} bytes, expected at most {MAX_METADATA_BYTES}")
        with os_errors(f"read {place}"), open_regular(place) as stream:
            data = stream.read(file.nbytes + 1)
        _check_hash(place, file, hash_bytes(data))
        return data

    def _check_hash_of(self, file: File) -> None:
        place = self.path / file.path
        with os_errors(f"read {place}"):
            seen = hash_file(place)
        _check_hash(place, file, seen)

    def _check_map(self, index: int) -> None:
        """Raise BundleError where a mapped file has become shorter: behind its end nothing can be touched."""
        _require_size(self.place(index), self.manifest.files[index], self._maps[index].size())

    def _map(self, index: int) -> mmap.mmap:
        file, place = self.manifest.files[index], self.place(index)
        with os_errors(f"read {place}"), open_regular(place) as stream:
            seen = os.fstat(stream.fileno())
            _require_size(place, file, seen.st_size)  # again: touching a map past the end of a file kills the process
            self._states[index] = _state(seen)
            return mmap.mmap(stream.fileno(), file.nbytes, access=mmap.ACCESS_READ)


def _read_manifest(path: Path) -> bytes:
    place = path / MANIFEST_PATH
    with os_errors(f"read {place}"):
        if not path.is_dir():
            seen = "is a file" if path.exists() else "does not exist"
            raise BundleError(f"{path} {seen}; expected the folder of a bundle, as mochi-compile writes it")
        if not place.is_file() and (path / DELTA_PATH).is_file():
            raise BundleError(
                f"{path} is a delta, not a bundle: mochi-run BASE --delta {path} uses it; it moves as any folder does, "
                "by tar or cp, and is checked when it is opened"
            )
        if not place.is_file():
            raise BundleError(f"{path} has no {MANIFEST_PATH}; expected a bundle, as mochi-compile writes it")
        with open_regular(place) as stream:
            return stream.read(MAX_METADATA_BYTES + 1)


def _state(status: os.stat_result) -> tuple[int, int, int]:
    """Return what a write to a file, or another file in its place, changes. A new link to it does not."""
    return status.st_ino, status.st_size, status.st_mtime_ns


def check_size(place: Path, file: File, remedy: str = REMEDY) -> None:
    """Raise BundleError, which ends with `remedy`, for a file that is not there or has another size than is written."""
    with os_errors(f"read {place}"):
        if not place.is_file():
            raise BundleError(f"{place} is missing, expected {file.nbytes} bytes{remedy}")
        seen = place.stat().st_size
    _require_size(place, file, seen, remedy)


def _require_size(place: Path, file: File, seen: int, remedy: str = REMEDY) -> None:
    if seen != file.nbytes:
        raise BundleError(f"{place}: expected {file.nbytes} bytes, seen {seen}{remedy}")


def _check_hash(place: Path, file: File, seen: str) -> None:
    if seen != file.blake3:
        raise BundleError(f"{place}: expected BLAKE3 {file.blake3}, seen {seen}{REMEDY}")
