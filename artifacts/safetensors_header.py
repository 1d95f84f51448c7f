"""The header of safetensors files (https://github.com/huggingface/safetensors), read without the library.

A file has 8 bytes with the header's length, little endian; the header, a JSON object name -> {"dtype", "shape",
"data_offsets"}; then the data that the offsets count from.
"""

import json
from dataclasses import dataclass

LENGTH_BYTES = 8
MAX_HEADER_BYTES = 100_000_000  # the format's own bound
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
    data = LENGTH_BYTES + len(header)
    try:
        items = json.loads(header).items()
        return {name: _entry(item, data) for name, item in items if name != NOT_A_TENSOR}
    except (AttributeError, KeyError, TypeError, RecursionError) as error:  # ValueError covers JSON and UTF-8
        raise ValueError(f"not the header of a safetensors file: {error}") from error


def _entry(item: dict, data: int) -> Entry:
    begin, end = _sizes(item["data_offsets"])
    return Entry(str(item["dtype"]), _sizes(item["shape"]), data + begin, end - begin)


def _sizes(values: list[object]) -> tuple[int, ...]:
    """Return the numbers as they are, if each is a whole number of at least 0."""
    sizes = tuple(value for value in values if type(value) is int and value >= 0)
    if len(sizes) != len(values):
        raise ValueError("sizes are whole numbers of at least 0")
    return sizes
