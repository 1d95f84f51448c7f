"""Safetensors files read tensor by tensor, bfloat16 included (numpy has no such type).

Layout (https://github.com/huggingface/safetensors): 8 bytes with the header's length, little endian; the header, a
JSON object name -> {"dtype", "shape", "data_offsets"}; then the data that the offsets count from.
"""

import json
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mochi_aot.runtime.errors import InputFileError

MAX_HEADER = 100_000_000  # bytes; the format's own bound
_NUMPY_DTYPES = {
    "F64": "<f8",
    "F32": "<f4",
    "F16": "<f2",
    "BF16": "<u2",  # bits, widened below
    "I64": "<i8",
    "I32": "<i4",
    "I8": "i1",
    "U8": "u1",
    "BOOL": "u1",
}


@dataclass(frozen=True)
class Entry:
    """One tensor of a file: where its bytes lie, counted from the file's beginning."""

    dtype: str
    shape: tuple[int, ...]
    offset: int
    nbytes: int


def read_header(path: Path) -> dict[str, Entry]:
    """Return the tensors of a safetensors file. Reads the header only.

    Raise InputFileError if the file cannot be opened, is no safetensors file, or is shorter than its header says.
    """
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            text = file.read(length) if 2 <= length <= MAX_HEADER else b""
        size = path.stat().st_size
    except OSError as error:
        raise InputFileError(f"{path} cannot be read: {error.strerror}") from None
    try:
        header = json.loads(text)
        entries = {name: _entry(item, 8 + length) for name, item in header.items() if name != "__metadata__"}
    except (ValueError, AttributeError, KeyError, TypeError, RecursionError):  # ValueError covers JSON and UTF-8
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
    array = np.frombuffer(data, _NUMPY_DTYPES[entry.dtype]).reshape(entry.shape)
    if entry.dtype == "BF16":
        return (array.astype(np.uint32) << 16).view(np.float32)
    return array


def _entry(item: dict, data_start: int) -> Entry:
    begin, end = _sizes(item["data_offsets"])
    return Entry(str(item["dtype"]), _sizes(item["shape"]), data_start + begin, end - begin)


def _sizes(values: list[object]) -> tuple[int, ...]:
    """Return the numbers as they are, if each is a whole number of at least 0."""
    sizes = tuple(value for value in values if type(value) is int and value >= 0)
    if len(sizes) != len(values):
        raise ValueError
    return sizes


def _check_entry(path: Path, name: str, entry: Entry, file_size: int) -> None:
    if entry.dtype not in _NUMPY_DTYPES:
        raise InputFileError(f"{path}: {name} has dtype {entry.dtype}; known are {', '.join(_NUMPY_DTYPES)}")
    item_size = np.dtype(_NUMPY_DTYPES[entry.dtype]).itemsize
    if entry.nbytes != math.prod(entry.shape) * item_size:
        raise InputFileError(f"{path}: the header is inconsistent: shape and offsets of {name} do not agree")
    if entry.offset + entry.nbytes > file_size:
        raise InputFileError(
            f"{path} is truncated: it has {file_size} bytes, {name} ends at {entry.offset + entry.nbytes}"
        )
