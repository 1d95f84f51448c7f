"""The header of safetensors files (https://github.com/huggingface/safetensors), read without the library.

A file has 8 bytes with the header's length, little endian; the header, a JSON object name -> {"dtype", "shape",
"data_offsets"}; then the data that the offsets count from.
"""

import json
from dataclasses import dataclass

LENGTH_BYTES = 8
# 80,000 tensors. The format's own bound is 100 MB, of which Python would make gigabytes of objects.
MAX_HEADER_BYTES = 8 << 20
MAX_RANK, MAX_SIZE = 16, (1 << 63) - 1
# What the format calls its dtypes, and numpy; bfloat16, which numpy lacks, as its bits.
NUMPY_DTYPES = {
    "F64": "<f8",
    "F32": "<f4",
    "F16": "<f2",
    "BF16": "<u2",
    "I64": "<i8",
    "I32": "<i4",
    "I8": "i1",
    "U8": "u1",
    "BOOL": "u1",
}
NOT_A_TENSOR = "__metadata__"


@dataclass(frozen=True)
class Entry:
    """One tensor of a file; `offset` counts from the start of the file."""

    dtype: str
    shape: tuple[int, ...]
    offset: int
    nbytes: int


def parse_header(header: bytes) -> dict[str, Entry]:
    """Return the tensors by name. Raise ValueError for what is no header; sizes are not compared with the file's."""
    return parse_notes(header)[0]


def parse_notes(header: bytes) -> tuple[dict[str, Entry], dict[str, str]]:
    """Return the tensors by name, and the notes that the file has beside them. Raise ValueError as `parse_header`."""
    data = LENGTH_BYTES + len(header)
    try:
        items = json.loads(header)
        notes = items.pop(NOT_A_TENSOR, {})
        if not all(isinstance(note, str) for note in notes.values()):
            raise ValueError("notes are text")
        return {name: _entry(item, data) for name, item in items.items()}, notes
    except (AttributeError, KeyError, TypeError, RecursionError) as error:  # ValueError covers JSON and UTF-8
        raise ValueError(f"not the header of a safetensors file: {error}") from error


def _entry(item: dict, data: int) -> Entry:
    begin, end = _sizes(item["data_offsets"])
    return Entry(str(item["dtype"]), _sizes(item["shape"]), data + begin, end - begin)


def _sizes(values: object) -> tuple[int, ...]:
    """Return the numbers as they are, if they are few, and each is a whole number of at least 0."""
    if not isinstance(values, list) or len(values) > MAX_RANK:
        raise ValueError(f"expected a list of at most {MAX_RANK} sizes")
    if not all(type(value) is int and 0 <= value <= MAX_SIZE for value in values):
        raise ValueError("sizes are whole numbers of at least 0")
    return tuple(values)
