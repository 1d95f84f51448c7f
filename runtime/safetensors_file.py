"""Safetensors files read tensor by tensor, bfloat16 included (numpy has no such type)."""

import math
import os
from pathlib import Path

import numpy as np

from mochi_aot.artifacts.regular_file import open_regular
from mochi_aot.artifacts.safetensors_header import (
    LENGTH_BYTES,
    MAX_HEADER_BYTES,
    NUMPY_DTYPES,
    Entry,
    parse_notes,
)
from mochi_aot.runtime.errors import InputFileError


def read_header(path: Path) -> dict[str, Entry]:
    """Return the tensors of a safetensors file. Reads the header only.

    Raise InputFileError if the file cannot be opened, is no safetensors file, or is shorter than its header says.
    """
    return read_notes(path)[0]


def read_notes(path: Path) -> tuple[dict[str, Entry], dict[str, str]]:
    """Return the tensors of a safetensors file, and the notes in its header. Raise InputFileError as `read_header`."""
    try:
        with open_regular(path) as file:
            length = int.from_bytes(file.read(LENGTH_BYTES), "little")
            text = file.read(length) if 2 <= length <= MAX_HEADER_BYTES else b""
            size = os.fstat(file.fileno()).st_size
    except OSError as error:
        raise InputFileError(f"{path} cannot be read: {error.strerror}") from None
    try:
        entries, notes = parse_notes(text)
    except ValueError:
        raise InputFileError(f"{path} is not a safetensors file: its header cannot be read") from None
    for name, entry in entries.items():
        _check_entry(path, name, entry, size)
    return entries, notes


def read_tensor(path: Path, entry: Entry) -> np.ndarray:
    """Return one tensor of `path`; bfloat16 is widened to float32, and bool is given as uint8.

    Raise InputFileError if the bytes cannot be read.
    """
    try:
        with open_regular(path) as file:
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
