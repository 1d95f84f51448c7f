"""One file of tensors, safetensors or GGUF: validated when opened, read by rows.

Rows are read into fresh memory rather than mapped, so the memory of a process that streams a model is that of one
tensor and not that of every page it ever touched.
"""

import copy
import os
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Self

import numpy as np
import torch
from safetensors import SafetensorError, safe_open

from mochi_aot.artifacts.regular_file import open_regular
from mochi_aot.artifacts.safetensors_header import LENGTH_BYTES, MAX_HEADER_BYTES, Entry, parse_header
from mochi_aot.compiler.checkpoint.errors import CheckpointError
from mochi_aot.compiler.checkpoint.file_kind import GGUF, file_kind
from mochi_aot.compiler.checkpoint.file_state import FileState
from mochi_aot.compiler.checkpoint.gguf_file import read_gguf_header
from mochi_aot.compiler.checkpoint.scaled_fp8 import split_scales
from mochi_aot.compiler.checkpoint.stored_dtypes import STORED

_REMEDY = "compile it when nothing writes to it"


class TensorFile:
    """The tensors of one file. The file stays open as long as this object lives.

    `tensors` has what the header says of each by its key, behind the `prefix` that all of them have in the file.
    """

    def __init__(self, path: Path) -> None:
        """Open and validate. Raise CheckpointError naming the file if it is absent, truncated, malformed, or something
        else than its name says."""
        self.path = path
        self.prefix = ""
        try:
            self._file = open_regular(path, buffering=0)
        except FileNotFoundError:
            raise CheckpointError(f"{path} is missing: the checkpoint is incomplete") from None
        except OSError as error:
            raise CheckpointError(f"{path} cannot be opened: {error.strerror}") from error
        self.state = FileState.of(self._file.fileno())
        self.settled = self.state.settled(time.time_ns())
        self.kind = file_kind(path, self._file)
        tensors = read_gguf_header(path) if self.kind == GGUF else self._read_header()
        self.tensors, self._scales = split_scales(path, tensors, lambda entry: self._pread(entry.offset, entry.nbytes))

    def below(self, prefix: str) -> Self:
        """Return the tensors whose keys begin with `prefix`, without it, of the same open file."""
        view = copy.copy(self)
        view.prefix = self.prefix + prefix
        view.tensors, view._scales = _below(self.tensors, prefix), _below(self._scales, prefix)
        return view

    def scaled(self, key: str) -> bool:
        """Return whether a number beside tensor `key` says what its values are to be multiplied by."""
        return key in self._scales

    def read_rows(self, key: str, start: int, stop: int) -> torch.Tensor:
        """Return rows [start, stop) of tensor `key`: [stop - start, *shape[1:]], in the dtype that STORED has for it.

        Raise CheckpointError.
        """
        info = self.tensors[key]
        row, shape, stored = info.nbytes // info.shape[0], (stop - start, *info.shape[1:]), STORED[info.dtype]
        if stored.decode is None:
            tensor = torch.empty(shape, dtype=stored.dtype)
            self._read_into(memoryview(tensor.reshape(-1).view(torch.uint8).numpy()), info.offset + start * row)
            return tensor
        data = np.empty((stop - start) * row, np.uint8)
        self._read_into(memoryview(data), info.offset + start * row)
        return stored.decode(data, self._scales.get(key, 1.0)).reshape(shape)

    def check_unchanged(self) -> None:
        """Raise CheckpointError unless the file at this path is the one that was opened, unchanged since then."""
        try:
            state = FileState.of(self.path)
        except OSError as error:
            raise CheckpointError(f"{self.path} has gone while it was read ({error.strerror}): {_REMEDY}") from error
        if state != self.state:
            before, now = (f"{s.nbytes} bytes, inode {s.inode}, {s.mtime_ns} ns" for s in (self.state, state))
            raise CheckpointError(f"{self.path} was changed while it was read (from {before} to {now}): {_REMEDY}")

    def _read_header(self) -> dict[str, Entry]:
        """Return the tensors of a safetensors file."""
        try:
            with safe_open(self.path, framework="pt"):  # the format's own validator: header, offsets, file size
                pass
        except (SafetensorError, OSError) as error:
            raise CheckpointError(
                f"{self.path} is not a whole safetensors file ({self._fault(str(error))}): copy it again"
            ) from error
        length = int.from_bytes(self._pread(0, LENGTH_BYTES), "little")
        if length > MAX_HEADER_BYTES:
            raise CheckpointError(f"{self.path}: a header of {length} bytes, expected at most {MAX_HEADER_BYTES}")
        try:
            return parse_header(self._pread(LENGTH_BYTES, length))
        except ValueError as error:  # what the validator lets pass, such as a shape of hundreds of dimensions
            raise CheckpointError(f"{self.path}: {error}") from None

    def _fault(self, reason: str) -> str:
        """Return what is wrong with a file that the validator refuses: how much of it is there, or `reason`."""
        held = self.state.nbytes
        if held < LENGTH_BYTES:
            return "it is empty" if held == 0 else reason
        length = int.from_bytes(self._pread(0, LENGTH_BYTES), "little")
        if length > min(MAX_HEADER_BYTES, held - LENGTH_BYTES):
            return reason
        with suppress(ValueError):
            entries = parse_header(self._pread(LENGTH_BYTES, length)).values()
            whole = max((entry.offset + entry.nbytes for entry in entries), default=0)
            if held < whole:
                return f"it has {held} bytes of {whole}"
        return reason

    def _pread(self, offset: int, nbytes: int) -> bytes:
        buffer = bytearray(nbytes)
        self._read_into(memoryview(buffer), offset)
        return bytes(buffer)

    def _read_into(self, view: memoryview, offset: int) -> None:
        done = 0
        while done < len(view):  # one call reads at most 2 GiB
            count = os.preadv(self._file.fileno(), [view[done:]], offset + done)
            if count == 0:
                raise CheckpointError(f"{self.path} became shorter while it was read: copy it again")
            done += count


def _below[V](values: Mapping[str, V], prefix: str) -> dict[str, V]:
    return {key.removeprefix(prefix): value for key, value in values.items() if key.startswith(prefix)}
