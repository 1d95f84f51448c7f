"""One safetensors file: validated when opened, read by rows.

Rows are read into fresh memory rather than mapped, so the memory of a process that streams a model is that of one
tensor and not that of every page it ever touched.
"""

import os
import time
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open

from mochi_aot.artifacts.regular_file import open_regular
from mochi_aot.artifacts.safetensors_header import LENGTH_BYTES, MAX_HEADER_BYTES, parse_header
from mochi_aot.compiler.checkpoint.errors import CheckpointError
from mochi_aot.compiler.checkpoint.file_state import FileState

DTYPES = {"F32": torch.float32, "BF16": torch.bfloat16, "F16": torch.float16}  # what weights are published in
DTYPE_NAMES = {torch.float32: "float32", torch.bfloat16: "bfloat16", torch.float16: "float16"}

_REMEDY = "compile it when nothing writes to it"


class TensorFile:
    """The tensors of one safetensors file. The file stays open as long as this object lives."""

    def __init__(self, path: Path) -> None:
        """Open and validate. Raise CheckpointError naming the file if it is absent, truncated or malformed."""
        self.path = path
        try:
            self._file = open_regular(path, buffering=0)
            with safe_open(path, framework="pt"):  # the format's own validator: header, offsets, file size
                pass
        except FileNotFoundError:
            raise CheckpointError(f"{path} is missing: the checkpoint is incomplete") from None
        except (SafetensorError, OSError) as error:
            raise CheckpointError(f"{path} is not a whole safetensors file ({error}): copy it again") from error
        self.state = FileState.of(self._file.fileno())
        self.settled = self.state.settled(time.time_ns())
        length = int.from_bytes(self._pread(0, LENGTH_BYTES), "little")
        if length > MAX_HEADER_BYTES:
            raise CheckpointError(f"{path}: a header of {length} bytes, expected at most {MAX_HEADER_BYTES}")
        self.header = self._pread(LENGTH_BYTES, length)
        try:
            self.tensors = parse_header(self.header)
        except ValueError as error:  # what the validator lets pass, such as a shape of hundreds of dimensions
            raise CheckpointError(f"{path}: {error}") from None

    def read_rows(self, key: str, start: int, stop: int) -> torch.Tensor:
        """Return rows [start, stop) of tensor `key`, as stored: [stop - start, *shape[1:]]. Raise CheckpointError."""
        info = self.tensors[key]
        row = info.nbytes // info.shape[0]
        tensor = torch.empty((stop - start, *info.shape[1:]), dtype=DTYPES[info.dtype])
        self._read_into(memoryview(tensor.reshape(-1).view(torch.uint8).numpy()), info.offset + start * row)
        return tensor

    def check_unchanged(self) -> None:
        """Raise CheckpointError unless the file at this path is the one that was opened, unchanged since then."""
        try:
            state = FileState.of(self.path)
        except OSError as error:
            raise CheckpointError(f"{self.path} has gone while it was read ({error.strerror}): {_REMEDY}") from error
        if state != self.state:
            before, now = (f"{s.nbytes} bytes, inode {s.inode}, {s.mtime_ns} ns" for s in (self.state, state))
            raise CheckpointError(f"{self.path} was changed while it was read (from {before} to {now}): {_REMEDY}")

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
