import numpy as np
import pytest

from mochi_aot.artifacts.dtypes import BLOCK_DTYPES, DTYPES, TTNN_DTYPES, held_dtype, tensor_bytes


@pytest.mark.parametrize(
    ("name", "itemsize", "storage"),
    [
        ("float32", 4, np.float32),
        ("bfloat16", 2, np.uint16),
        ("int32", 4, np.int32),
        ("uint32", 4, np.uint32),
        ("bool", 1, np.bool_),
        ("uint8", 1, np.uint8),
        ("float8", 1, np.uint8),
    ],
)
def test_the_table(name: str, itemsize: int, storage: type) -> None:
    assert DTYPES[name].itemsize == itemsize
    assert DTYPES[name].storage == np.dtype(storage).newbyteorder("<")


def test_bytes_of_tensors() -> None:
    assert len(DTYPES) == 7
    assert tensor_bytes("bfloat16", [3, 5]) == 30
    assert tensor_bytes("float32", []) == 4


def test_how_hosts_hold_what_numpy_has_not() -> None:
    others = {name for name in (*DTYPES, *BLOCK_DTYPES) if held_dtype(name).name != name}
    assert others == {"bfloat16", "bfloat8_b", "float8"}
    assert all(held_dtype(name) == np.float32 for name in others)


def test_what_chips_hold_values_as() -> None:
    """ttnn has no booleans, looks up with uint32, and has no float8."""
    assert {name: dtype.chip for name, dtype in DTYPES.items() if dtype.chip != name} == {
        "bool": "bfloat16",
        "int32": "uint32",
        "float8": "",
    }
    assert set(TTNN_DTYPES) == {"float32", "bfloat16", "int32", "uint32", "uint8", "bfloat8_b"}
