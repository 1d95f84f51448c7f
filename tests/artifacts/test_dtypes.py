import numpy as np
import pytest

from mochi_aot.artifacts.dtypes import DTYPES, tensor_bytes


@pytest.mark.parametrize(
    ("name", "itemsize", "storage"),
    [
        ("float32", 4, np.float32),
        ("bfloat16", 2, np.uint16),
        ("int32", 4, np.int32),
        ("uint32", 4, np.uint32),
        ("bool", 1, np.bool_),
        ("uint8", 1, np.uint8),
    ],
)
def test_the_table(name: str, itemsize: int, storage: type) -> None:
    assert DTYPES[name].itemsize == itemsize
    assert DTYPES[name].storage == np.dtype(storage).newbyteorder("<")


def test_bytes_of_tensors() -> None:
    assert len(DTYPES) == 6
    assert tensor_bytes("bfloat16", [3, 5]) == 30
    assert tensor_bytes("float32", []) == 4
