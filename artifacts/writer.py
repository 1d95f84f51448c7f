"""Writes a bundle, streaming: shards go to disk as they are added, so memory does not grow with the model."""

from collections.abc import Buffer, Callable
from pathlib import Path
from types import TracebackType
from typing import Self

from mochi_aot.artifacts.envelope import pack
from mochi_aot.artifacts.errors import os_errors
from mochi_aot.artifacts.integrity import hash_bytes, hash_file
from mochi_aot.artifacts.layout import (
    FORMAT_VERSION,
    MANIFEST_MAGIC,
    MANIFEST_PATH,
    PROGRAM_MAGIC,
    TOKENIZER_PATH,
    WEIGHT_FILE_BYTES,
    align,
    kernel_path,
    program_path,
    tensor_path,
)
from mochi_aot.artifacts.schema import File, Geometry, Kernels, Manifest, MeshSettings, Plain, Program, Shard, Weight
from mochi_aot.artifacts.staging import StagedFolder
from mochi_aot.artifacts.validate import check_manifest, check_program_fits
from mochi_aot.artifacts.validate_program import check_program
from mochi_aot.artifacts.weight_file import WeightFile


class BundleWriter:
    """Context manager: add things in the order of their first use, then `finish`.

    The bundle appears at `path` when `finish` returns, and not otherwise: any exception leaves the disk as it was.
    `force` replaces an older bundle at `path`. Methods raise BundleError for bad data, and when the disk is full or
    cannot be written. A weight file is closed when the next shard would take it past `file_bytes`.
    """

    def __init__(self, path: str | Path, force: bool = False, file_bytes: int = WEIGHT_FILE_BYTES) -> None:
        self._staged = StagedFolder(Path(path).absolute(), force)
        self._file_bytes = file_bytes
        self._files: list[File | None] = []
        self._weights: list[Weight] = []
        self._shards: list[Shard] = []
        self._shard_index: dict[str, int] = {}
        self._program_index: dict[str, int] = {}
        self._tensor_index: dict[str, int] = {}
        self._programs: list[Program] = []
        self._open: WeightFile | None = None
        self._open_index = 0

    def __enter__(self) -> Self:
        self._staged.create()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._open is not None:
            self._open.close()
        self._staged.discard()

    def add_program(self, program: Program) -> int:
        """Validate and write a program; returns its index into Manifest.files, the same for equal programs."""
        where = f"program {program.name!r}"
        check_program(program, where)
        data = pack(PROGRAM_MAGIC, program, where)
        sha256 = hash_bytes(data)
        if sha256 not in self._program_index:
            self._program_index[sha256] = self._add_file(program_path(sha256), data)
            self._programs.append(program)
        return self._program_index[sha256]

    def add_tokenizer(self, data: bytes) -> None:
        """Write the tokenizer.json of the `tokenizers` library."""
        self._add_file(TOKENIZER_PATH, data)

    def add_shard(self, data: Buffer) -> int:
        """Write one device's piece of a weight, unless the same bytes were written before; returns its index.

        `data` is any C-contiguous buffer, such as a numpy array, in the storage dtype of dtypes.DTYPES.
        """
        view = memoryview(data).cast("B")
        sha256 = hash_bytes(view)
        if sha256 not in self._shard_index:
            with os_errors(f"write {self._staged.path}"):
                offset = self._weight_file(len(view)).append(view)
            self._shard_index[sha256] = len(self._shards)
            self._shards.append(Shard(self._open_index, offset, len(view), sha256))
        return self._shard_index[sha256]

    def add_tensor_file(self, write: Callable[[Path], object]) -> int:
        """Let `write` write a tensor file at a path that it is given; returns its index into Manifest.files.

        Of files with the same bytes one is kept.
        """
        place = self._staged.folder / tensor_path("open")
        with os_errors(f"write {self._staged.path}"):
            place.parent.mkdir(exist_ok=True)
            write(place)
            sha256, nbytes = hash_file(place), place.stat().st_size
            if sha256 in self._tensor_index:
                place.unlink()
                return self._tensor_index[sha256]
            place.rename(self._staged.folder / tensor_path(sha256))
        self._tensor_index[sha256] = len(self._files)
        self._files.append(File(tensor_path(sha256), nbytes, sha256))
        return self._tensor_index[sha256]

    def add_kernels(self, write: Callable[[Path], object]) -> int:
        """Let `write` write an archive of kernels at a path that it is given; returns its index into Manifest.files."""
        place = self._staged.folder / kernel_path("open")
        with os_errors(f"write {self._staged.path}"):
            place.parent.mkdir(exist_ok=True)
            write(place)
            sha256, nbytes = hash_file(place), place.stat().st_size
            place.rename(self._staged.folder / kernel_path(sha256))
        self._files.append(File(kernel_path(sha256), nbytes, sha256))
        return len(self._files) - 1

    def add_weight(self, weight: Weight) -> None:
        """Record a weight whose shards, or whose tensor file, were added."""
        self._weights.append(weight)

    def finish(
        self,
        *,
        target: str,
        mesh: list[int],
        dtype: str,
        step_capacity: int,
        text_length: int,
        model: dict[str, Plain],
        checkpoint: dict[str, str],
        versions: dict[str, str],
        geometries: list[Geometry],
        created_by: str,
        mesh_settings: MeshSettings | None = None,
        kernels: Kernels | None = None,
    ) -> str:
        """Validate the whole, write the manifest and move the bundle into place; returns the bundle's id."""
        self._finish_weight_file()
        manifest = Manifest(
            format_version=FORMAT_VERSION,
            target=target,
            mesh=mesh,
            mesh_settings=mesh_settings,
            dtype=dtype,
            step_capacity=step_capacity,
            text_length=text_length,
            model=model,
            checkpoint=checkpoint,
            versions=versions,
            geometries=geometries,
            weights=self._weights,
            shards=self._shards,
            files=[file for file in self._files if file is not None],
            kernels=kernels,
            created_by=created_by,
        )
        data = pack(MANIFEST_MAGIC, manifest, "manifest")
        check_manifest(manifest, "manifest")
        for program in self._programs:
            check_program_fits(program, manifest, f"program {program.name!r}")
        self._write(MANIFEST_PATH, data)
        self._staged.publish()
        return hash_bytes(data)

    def _add_file(self, path: str, data: bytes) -> int:
        self._write(path, data)
        self._files.append(File(path, len(data), hash_bytes(data)))
        return len(self._files) - 1

    def _write(self, path: str, data: bytes) -> None:
        place = self._staged.folder / path
        with os_errors(f"write {self._staged.path}"):
            place.parent.mkdir(exist_ok=True)
            place.write_bytes(data)

    def _weight_file(self, nbytes: int) -> WeightFile:
        """The open weight file, or a new one if `nbytes` more would take it past the limit."""
        if self._open is not None and align(self._open.nbytes) + nbytes > self._file_bytes:
            self._finish_weight_file()
        if self._open is None:
            self._open = WeightFile(self._staged.folder)
            self._open_index = len(self._files)
            self._files.append(None)  # its place; its name is known when it is complete
        return self._open

    def _finish_weight_file(self) -> None:
        if self._open is not None:
            with os_errors(f"write {self._staged.path}"):
                self._files[self._open_index] = self._open.finish()
            self._open = None
