"""Safetensors files read tensor by tensor, bfloat16 included (numpy has no such type)."""

import math
from pathlib import Path

import numpy as np

from mochi_aot.artifacts.safetensors_header import (
    LENGTH_BYTES,
    MAX_HEADER_BYTES,
    NUMPY_DTYPES,
    Entry,
    parse_header,
)
from mochi_aot.runtime.errors import InputFileError


def read_header(path: Path) -> dict[str, Entry]:
    """Return the tensors of a safetensors file. Reads the header only.

    Raise InputFileError if the file cannot be opened, is no safetensors file, or is shorter than its header says.
    """
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(LENGTH_BYTES), "little")
            text = file.read(length) if 2 <= length <= MAX_HEADER_BYTES else b""
        size = path.stat().st_size
    except OSError as error:
        raise InputFileError(f"{path} cannot be read: {error.strerror}") from None
    try:
        entries = parse_header(text)
    except ValueError:
        raise InputFileError(f"{path} is not a safetensors file: its header cannot be read") from None
    for name, entry in entries.items():
        _check_entry(path, name, entry, size)
    return entries


def read_tensor(path: Path, entry: Entry) -> np.ndarray:
    """Return one tensor of `path`; bfloat16 is widened to float32, and bool is given as uint8.

    Raise InputFileError if the bytes cannot be read.
    """
    try:
        with path.open("rb") as file:
            file.seek(entry.offset)
            data = file.read(entry.nbytes)
    except OSError as error:
        raise InputFileError(f"{path} cannot be read: {error.strerror}") from None
    if len(data) != entry.nbytes:
        raise InputFileError(f"{path} is truncated; it has changed since it was checked")
    array = np.frombuffer(data, NUMPY_DTYPES[entry.dtype]).reshape(entry.shape)
    if entry.dtype == "BF16":
        return (array.astype(np.uint32) << 16).view(np.float32)
    return array


def _check_entry(path: Path, name: str, entry: Entry, file_size: int) -> None:
    if entry.dtype not in NUMPY_DTYPES:
        raise InputFileError(f"{path}: {name} has dtype {entry.dtype}; known are {', '.join(NUMPY_DTYPES)}")
    item_size = np.dtype(NUMPY_DTYPES[entry.dtype]).itemsize
    if entry.nbytes != math.prod(entry.shape) * item_size:
        raise InputFileError(f"{path}: the header is inconsistent: shape and offsets of {name} do not agree")
    if entry.offset + entry.nbytes > file_size:
        raise InputFileError(
            f"{path} is truncated: it has {file_size} bytes, {name} ends at {entry.offset + entry.nbytes}"
        )
