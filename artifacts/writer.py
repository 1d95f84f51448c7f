"""Writes a bundle, streaming: shards go to disk as they are added, so memory does not grow with the model."""

import itertools
from collections.abc import Buffer, Callable
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self

from mochi_aot.artifacts.atomic_file import sync
from mochi_aot.artifacts.delta_checks import check_record
from mochi_aot.artifacts.delta_schema import LoraRecord
from mochi_aot.artifacts.envelope import pack
from mochi_aot.artifacts.errors import os_errors
from mochi_aot.artifacts.integrity import bundle_id, hash_bytes, hash_file, hash_shards
from mochi_aot.artifacts.journal import read_journal
from mochi_aot.artifacts.layout import (
    FORMAT_VERSION,
    LORA_MAGIC,
    MANIFEST_MAGIC,
    MANIFEST_PATH,
    PROGRAM_MAGIC,
    TOKENIZER_PATH,
    WEIGHT_FILE_BYTES,
    WEIGHT_FOLDER,
    FileGroup,
    align,
    factor_path,
    kernel_path,
    lora_path,
    notice_path,
    program_path,
    tensor_path,
    weight_path,
)
from mochi_aot.artifacts.reader import Bundle
from mochi_aot.artifacts.reusable import ReusableWeight, ReusableWeights, StoredBytes, reusable_in_bundle
from mochi_aot.artifacts.schema import File, Geometry, Kernels, Manifest, MeshSettings, Plain, Program, Shard, Weight
from mochi_aot.artifacts.staging import StagedFolder
from mochi_aot.artifacts.validate import check_manifest, check_program_fits
from mochi_aot.artifacts.validate_program import check_program
from mochi_aot.artifacts.weight_file import WeightFile, link_or_copy


class BundleWriter:
    """Context manager: add things in the order of their first use, then `finish`.

    The bundle appears at `path` when `finish` returns, and not otherwise: any exception leaves the disk as it was.
    `force` replaces an older bundle at `path`. Methods raise BundleError for bad data, and when the disk is full or
    cannot be written. A weight file is closed when the next shard would take it past `file_bytes`.

    `reusable` finds the weights of `reuse`, another bundle, which share its files where they can; with `resume` also
    those that a compile to `path` had finished before it was stopped, and then an exception leaves what is finished.
    """

    def __init__(
        self,
        path: str | Path,
        force: bool = False,
        file_bytes: int = WEIGHT_FILE_BYTES,
        resume: bool = False,
        reuse: Bundle | None = None,
    ) -> None:
        self._staged = StagedFolder(Path(path).absolute(), force, keep=resume)
        self.reuse = reuse
        self.reusable = ReusableWeights()
        self.reused_bytes = 0
        self.kept = False  # after an exception: whether `resume` will find something
        self._file_bytes = file_bytes
        self._files: list[File | None] = []
        self._weights: list[Weight] = []
        self._shards: list[Shard] = []
        self._shard_index: dict[str, int] = {}
        self._program_index: dict[str, int] = {}
        self._tensor_index: dict[str, int] = {}
        self._programs: list[Program] = []
        self._notices: dict[str, int] = {}
        self._loras: LoraRecord | None = None
        self._weight_files: dict[int, WeightFile] = {}  # by their index among the files
        self._open: dict[FileGroup, int] = {}  # of these, those to which shards are added
        self._tensors = itertools.count(1)  # several threads ask for places

    def __enter__(self) -> Self:
        self._staged.create()
        made = [*(reusable_in_bundle(self.reuse) if self.reuse else ())]
        for folder in self._staged.remains:
            made += read_journal(folder)
        self.reusable = ReusableWeights(made)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for file in self._weight_files.values():
            file.close()
        self.kept = self._staged.discard()

    def add_program(self, program: Program) -> int:
        """Validate and write a program; return its index into Manifest.files, the same for equal programs."""
        where = f"program {program.name!r}"
        check_program(program, where)
        data = pack(PROGRAM_MAGIC, program, where)
        digest = hash_bytes(data)
        if digest not in self._program_index:
            self._program_index[digest] = self._add_file(program_path(digest), data)
            self._programs.append(program)
        return self._program_index[digest]

    def path(self, index: int) -> str:
        """Return the path of a program or another file that was added, in the bundle."""
        file = self._files[index]
        assert file is not None  # a weight file, which has no name before `finish`
        return file.path

    def add_tokenizer(self, data: bytes) -> None:
        """Write the tokenizer.json of the `tokenizers` library."""
        self._add_file(TOKENIZER_PATH, data)

    def add_notice(self, name: str, data: bytes) -> None:
        """Write a licence or card that the checkpoint has under this name. Empty ones are left out."""
        if data:
            path = notice_path(hash_bytes(data))
            known = (index for index, file in enumerate(self._files) if file is not None and file.path == path)
            index = next(known, None)
            self._notices[name] = self._add_file(path, data) if index is None else index

    def add_loras(self, record: LoraRecord, data: bytes) -> None:
        """Write what is known of the LoRAs in the weights: `data` is the file of their factors."""
        self._add_file(factor_path(record.data), data)
        packed = pack(LORA_MAGIC, record, "loras")
        self._add_file(lora_path(hash_bytes(packed)), packed)
        self._loras = record

    def add_shard(self, data: Buffer, digest: str | None = None, group: FileGroup = FileGroup.SMALL) -> int:
        """Write one device's part of a weight, unless the same bytes were written before; return its index.

        `data` is any C-contiguous buffer, such as a numpy array, in the storage dtype of dtypes.DTYPES; `digest` is its
        hash, if that is known. Shards of `group` OWN have files of their own with those added up to `add_weight`.
        """
        view = memoryview(data).cast("B")
        known = digest or hash_bytes(view)
        return self._place_shard(known, len(view), group, lambda file: file.append(view))

    def tensor_place(self) -> Path:
        """Return a path for the next tensor file."""
        folder = self._staged.folder / WEIGHT_FOLDER
        with os_errors(f"write {self._staged.path}"):
            folder.mkdir(exist_ok=True)
        return folder / f"open-{next(self._tensors)}.tensorbin"

    def add_tensor(self, place: Path, digest: str) -> int:
        """Take the tensor file with this hash that was written at a `tensor_place`; return its index into
        Manifest.files. Of files with the same bytes one is kept."""
        with os_errors(f"write {self._staged.path}"):
            if digest in self._tensor_index:
                place.unlink()
                return self._tensor_index[digest]
            sync(place)  # now, while others work, rather than all at the end
            final = self._staged.folder / tensor_path(digest)
            place.rename(final)
            self._tensor_index[digest] = len(self._files)
            self._files.append(File(tensor_path(digest), final.stat().st_size, digest))
        return self._tensor_index[digest]

    def add_tensor_file(self, write: Callable[[Path], object]) -> int:
        """Let `write` write a tensor file at a path that it is given; return its index into Manifest.files."""
        place = self.tensor_place()
        with os_errors(f"write {self._staged.path}"):
            write(place)
            digest = hash_file(place)
        return self.add_tensor(place, digest)

    def add_kernels(self, write: Callable[[Path], object]) -> int:
        """Let `write` write an archive of kernels at a path that it is given; return its index into Manifest.files."""
        place = self._staged.folder / kernel_path("open")
        with os_errors(f"write {self._staged.path}"):
            place.parent.mkdir(exist_ok=True)
            write(place)
            digest, nbytes = hash_file(place), place.stat().st_size
            place.rename(self._staged.folder / kernel_path(digest))
        self._files.append(File(kernel_path(digest), nbytes, digest))
        return len(self._files) - 1

    def add_weight(self, weight: Weight) -> None:
        """Record a weight whose shards, or whose tensor file, were added.

        A compile that resumes this one may find it if it says what it was made of.
        """
        self._weights.append(weight)
        if (index := self._open.pop(FileGroup.OWN, None)) is not None:
            self._close_weight_file(index)
        if weight.source and self._staged.journal is not None:
            with os_errors(f"write {self._staged.path}"):
                self._staged.journal.add(self._made(weight))

    def add_reusable(self, made: ReusableWeight, group: FileGroup = FileGroup.SMALL) -> None:
        """Record a weight that `reusable` has found, with its bytes."""
        shards, file = [], None
        if made.devices:
            indices = [self._place_shard(part.blake3, part.nbytes, group, partial(_adopt, part)) for part in made.parts]
            shards = [indices[device] for device in made.devices]
        else:
            place = self.tensor_place()
            with os_errors(f"write {self._staged.path}"):
                link_or_copy(made.parts[0].place, place)
            file = self.add_tensor(place, made.parts[0].blake3)
        self.reused_bytes += sum(part.nbytes for part in made.parts)
        self.add_weight(Weight(made.name, made.dtype, made.local_shape, shards, file, made.source))

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
        weights_dtype: str | None = None,
        links_dtype: str | None = None,
        ttnn: str = "",
    ) -> str:
        """Validate the whole, write the manifest and move the bundle into place; return the bundle's id.

        The dtypes of weights and links are `dtype` unless given.
        """
        for index in list(self._open.values()):
            self._close_weight_file(index)
        self._name_weight_files()
        manifest = Manifest(
            format_version=FORMAT_VERSION,
            target=target,
            mesh=mesh,
            mesh_settings=mesh_settings,
            ttnn=ttnn,
            dtype=dtype,
            weights_dtype=weights_dtype or dtype,
            links_dtype=links_dtype or dtype,
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
            notices=self._notices,
            created_by=created_by,
        )
        data = pack(MANIFEST_MAGIC, manifest, "manifest")
        check_manifest(manifest, "manifest")
        for program in self._programs:
            check_program_fits(program, manifest, f"program {program.name!r}")
        if self._loras is not None:
            check_record(self._loras, manifest, "loras")
        self._write(MANIFEST_PATH, data)
        self._staged.publish()
        return bundle_id(data)

    def _add_file(self, path: str, data: bytes) -> int:
        self._write(path, data)
        self._files.append(File(path, len(data), hash_bytes(data)))
        return len(self._files) - 1

    def _write(self, path: str, data: bytes) -> None:
        place = self._staged.folder / path
        with os_errors(f"write {self._staged.path}"):
            place.parent.mkdir(exist_ok=True)
            place.write_bytes(data)

    def _made(self, weight: Weight) -> ReusableWeight:
        """Return a weight that was added, as another compile would find it."""
        distinct = list(dict.fromkeys(weight.shards))
        shards = [self._shards[index] for index in distinct]
        parts = [StoredBytes(self._weight_files[s.file].path, s.offset, s.nbytes, s.blake3) for s in shards]
        if weight.file is not None:
            file = self._files[weight.file]
            assert file is not None
            parts = [StoredBytes(self._staged.folder / file.path, 0, file.nbytes, file.blake3)]
        devices = [distinct.index(shard) for shard in weight.shards]
        return ReusableWeight(
            weight.source, weight.name, weight.dtype, weight.local_shape, parts, devices, synced=False
        )

    def _place_shard(self, digest: str, nbytes: int, group: FileGroup, place: Callable[[WeightFile], int]) -> int:
        if digest not in self._shard_index:
            with os_errors(f"write {self._staged.path}"):
                index = self._weight_file(nbytes, group)
                offset = place(self._weight_files[index])
            self._shard_index[digest] = len(self._shards)
            self._shards.append(Shard(index, offset, nbytes, digest))
        return self._shard_index[digest]

    def _weight_file(self, nbytes: int, group: FileGroup) -> int:
        """Return the open weight file, or a new one if `nbytes` more would take it past the limit."""
        index = self._open.get(group)
        if index is not None and align(self._weight_files[index].nbytes) + nbytes <= self._file_bytes:
            return index
        if index is not None:
            self._close_weight_file(index)
        self._open[group] = index = len(self._files)
        self._files.append(None)  # its place; its name is known when it is complete
        path = self._staged.folder / WEIGHT_FOLDER / f"open-{index}.bin"
        path.parent.mkdir(exist_ok=True)
        self._weight_files[index] = WeightFile(path)
        return index

    def _close_weight_file(self, index: int) -> None:
        with os_errors(f"write {self._staged.path}"):
            self._weight_files[index].finish()

    def _name_weight_files(self) -> None:
        """Name the weight files, last of all: until then the journal says where a shard is."""
        shards: dict[int, list[Shard]] = {index: [] for index in self._weight_files}
        for shard in self._shards:
            shards[shard.file].append(shard)
        for index, file in self._weight_files.items():
            digest = hash_shards(shards[index])
            with os_errors(f"write {self._staged.path}"):
                file.path.rename(self._staged.folder / weight_path(digest))
            self._files[index] = File(weight_path(digest), file.nbytes, digest)


def _adopt(part: StoredBytes, file: WeightFile) -> int:
    return file.adopt(part.place, part.offset, part.nbytes)
