"""Which headers of GGUF files the gguf package gets to see: all that its own writer makes, and no claim beyond."""

import struct
from pathlib import Path

import gguf
import numpy as np
import pytest

from mochi_aot.compiler.checkpoint import gguf_limits
from mochi_aot.compiler.checkpoint.gguf_limits import check_gguf

START = b"GGUF" + struct.pack("<I", 3)


def header(tensors: int = 0, notes: int = 0, rest: bytes = b"") -> bytes:
    return START + struct.pack("<QQ", tensors, notes) + rest


def text(value: bytes, nbytes: int | None = None) -> bytes:
    return struct.pack("<Q", len(value) if nbytes is None else nbytes) + value


def test_notes_of_every_type_are_let_through(tmp_path: Path) -> None:
    writer = gguf.GGUFWriter(tmp_path / "a.gguf", "t5encoder")
    for kind in (
        "uint8",
        "int8",
        "uint16",
        "int16",
        "uint32",
        "int32",
        "float32",
        "uint64",
        "int64",
        "float64",
        "bool",
    ):
        getattr(writer, f"add_{kind}")(kind, 1)
    writer.add_string("text", "x" * 5000)
    writer.add_token_list(["a", "b"] * 16_064)  # as many words as T5 has
    writer.add_token_scores([0.5] * 32_128)
    writer.add_tensor("weight", np.ones((2, 3, 1, 2), np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    data = (tmp_path / "a.gguf").read_bytes()
    check_gguf(data)
    end = data.index(b"weight") + 6 + 4 + 4 * 8 + 4 + 8  # name, number of dimensions, sizes, type, offset
    check_gguf(data[:end])
    for cut in (0, 3, 7, 20, 100, end // 2, end - 1):
        with pytest.raises(ValueError, match=r"^it ends within its header$"):
            check_gguf(data[:cut])


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"GGUF" + struct.pack(">I", 3) + bytes(16), "version 50331648, expected 2 or 3 and little-endian"),
        (header(tensors=(1 << 16) + 1), "65537 tensors, expected at most 65536"),
        (header(notes=(1 << 20) + 1), "1048577 notes, expected at most 1048576"),
        (header(notes=1, rest=text(b"", 1 << 62)), "a text of 4611686018427387904 bytes, expected at most 1024"),
        (
            header(notes=1, rest=text(b"k") + struct.pack("<IIQ", 9, 0, 1 << 62)),
            "more than 1048576 values in its notes",
        ),
        (header(notes=1, rest=text(b"k") + struct.pack("<IIQ", 9, 0, 1000)), "it ends within its header"),
        (
            header(notes=1, rest=text(b"k") + struct.pack("<IIQ", 9, 9, 1)),
            "a value of type 9, expected 0 to 12, and no array in another",
        ),
        (
            header(notes=1, rest=text(b"k") + struct.pack("<I", 13)),
            "a value of type 13, expected 0 to 12, and no array in another",
        ),
        (header(tensors=1, rest=text(b"w") + struct.pack("<I", 5)), "5 dimensions, expected at most 4"),
    ],
)
def test_claims_beyond(data: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}$"):
        check_gguf(data)


def test_values_are_counted_over_all_notes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gguf_limits, "MAX_VALUES", 4)
    array = struct.pack("<IIQ", 9, 0, 2) + b"ab"
    check_gguf(header(notes=2, rest=text(b"a") + array + text(b"b") + array))
    with pytest.raises(ValueError, match=r"^more than 4 values in its notes$"):
        check_gguf(header(notes=3, rest=text(b"a") + array + text(b"b") + array + text(b"c") + array))
