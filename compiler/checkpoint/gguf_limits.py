"""What the header of a GGUF file may claim, compared before the `gguf` package sees the file.

The package makes an object of each value that an array claims, behind the end of the file too: hours and all memory.
Layout: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md.
"""

import mmap
import struct

VERSIONS = (2, 3)  # those that the package reads; here of little-endian files
MAX_VALUES = 1 << 20  # in all notes; a vocabulary of T5 has 32,128 words, and as many scores and types
MAX_TENSORS = 1 << 16
MAX_DIMENSIONS = 4  # GGML_MAX_DIMS
MAX_NAME = 1 << 10  # bytes
MAX_TEXT = 1 << 20  # bytes of one note
_STRING, _ARRAY = 8, 9
# Bytes of a value, by GGUF's number of its type.
_FIXED = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}


def check_gguf(data: mmap.mmap | bytes) -> None:
    """Raise ValueError, saying what was seen, for a header that is cut, or claims more than those of models have."""
    header = _Header(data)
    version = header.number("4xI")
    _require(version in VERSIONS, f"version {version}, expected {' or '.join(map(str, VERSIONS))} and little-endian")
    tensors, notes = header.number("Q"), header.number("Q")
    _require(tensors <= MAX_TENSORS, f"{tensors} tensors, expected at most {MAX_TENSORS}")
    _require(notes <= MAX_VALUES, f"{notes} notes, expected at most {MAX_VALUES}")
    for _ in range(notes):
        header.skip_text(MAX_NAME)
        header.skip_value(header.number("I"))
    for _ in range(tensors):
        header.skip_text(MAX_NAME)
        dimensions = header.number("I")
        _require(dimensions <= MAX_DIMENSIONS, f"{dimensions} dimensions, expected at most {MAX_DIMENSIONS}")
        header.skip(8 * dimensions + 4 + 8)  # sizes, type, offset


class _Header:
    """Goes through the bytes of a header."""

    def __init__(self, data: mmap.mmap | bytes) -> None:
        self._data, self._at, self._values = data, 0, 0

    def skip(self, nbytes: int) -> None:
        self._at += nbytes
        _require(self._at <= len(self._data), "it ends within its header")

    def number(self, form: str) -> int:
        start = self._at
        self.skip(struct.calcsize(f"<{form}"))
        number: int = struct.unpack_from(f"<{form}", self._data, start)[0]
        return number

    def skip_text(self, most: int) -> None:
        nbytes = self.number("Q")
        _require(nbytes <= most, f"a text of {nbytes} bytes, expected at most {most}")
        self.skip(nbytes)

    def skip_value(self, kind: int) -> None:
        if kind == _ARRAY:
            kind, count = self.number("I"), self.number("Q")
        else:
            count = 1
        self._values += count
        _require(self._values <= MAX_VALUES, f"more than {MAX_VALUES} values in its notes")
        _require(
            kind == _STRING or kind in _FIXED, f"a value of type {kind}, expected 0 to 12, and no array in another"
        )
        if kind == _STRING:
            for _ in range(count):
                self.skip_text(MAX_TEXT)
        else:
            self.skip(_FIXED[kind] * count)


def _require(holds: bool, seen: str) -> None:
    if not holds:
        raise ValueError(seen)
