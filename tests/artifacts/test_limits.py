"""Claims of a manifest that would cost a host its memory or its time, and how little they cost."""

import hashlib
import subprocess
import sys
from collections.abc import Callable

import msgpack
import pytest

from mochi_aot.artifacts.envelope import unpack
from mochi_aot.artifacts.errors import BundleError
from mochi_aot.artifacts.layout import FORMAT_VERSION, MANIFEST_MAGIC, MAX_METADATA_BYTES
from mochi_aot.artifacts.limits import (
    MAX_DEVICES,
    MAX_ELEMENTS,
    MAX_PIXELS,
    MAX_RANK,
    MAX_TENSOR_ELEMENTS,
    check_product,
    check_range,
    check_shape,
)
from mochi_aot.artifacts.schema import Manifest

GIB = 1 << 30


def bundle_of(model: bytes) -> bytes:
    """The head of a manifest, and packed bytes where its fields are to be."""
    body: bytes = b"\x93" + msgpack.packb(MANIFEST_MAGIC) + msgpack.packb(FORMAT_VERSION) + model
    return body + hashlib.sha256(body).digest()


def array(count: int, items: bytes) -> bytes:
    return b"\xdd" + count.to_bytes(4, "big") + items


def in_pieces(item: bytes) -> bytes:
    """As many of an item as fit into a manifest, in arrays of fewer items than an array may have."""
    room = (MAX_METADATA_BYTES - 4096) // len(item)
    count = MAX_ELEMENTS - 1
    pieces, rest = divmod(room, count)
    return array(pieces + 1, array(count, item * count) * pieces + array(rest, item * rest))


def nested(item: bytes) -> bytes:
    """The same in arrays of which each is in the one before, so that none ends before the file does."""
    count = MAX_ELEMENTS - 1
    pieces = (MAX_METADATA_BYTES - 4096) // (len(item) * count)
    return (array(count + 1, item * count)) * pieces + b"\x90"


CASES: dict[str, Callable[[], bytes]] = {
    "33 million empty lists in one": lambda: array(MAX_METADATA_BYTES - 100, b"\x90" * (MAX_METADATA_BYTES - 100)),
    "33 million empty lists": lambda: in_pieces(b"\x90"),
    "maps": lambda: in_pieces(b"\x81\xa2ab\x90"),
    "strings in arrays that do not end": lambda: nested(b"\xa2ab"),
    "arrays that claim to be long": lambda: array(MAX_ELEMENTS, b"") * 1000,
}


def test_manifests_of_many_values_are_refused_in_less_than_a_gibibyte() -> None:
    """All cases after each other in a process of its own, whose peak is what the worst of them takes."""
    code = (
        "from mochi_aot.artifacts.memory import peak_memory\n"
        "from tests.artifacts.test_limits import CASES, bundle_of, unpack, BundleError, Manifest, MANIFEST_MAGIC\n"
        "for case in CASES.values():\n"
        "    try: unpack(MANIFEST_MAGIC, Manifest, bundle_of(case()), 'm')\n"
        "    except BundleError as error: print(error)\n"
        "print(peak_memory())\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    *refusals, peak = done.stdout.splitlines()
    assert len(refusals) == len(CASES)
    assert all(f"more than {MAX_ELEMENTS} values" in line or "max_array_len" in line for line in refusals)
    assert int(peak) < GIB


def test_values_up_to_the_limit_are_read() -> None:
    """Too many for the file to be known to have few by its size alone; what is wrong is that they are no map."""
    count = MAX_ELEMENTS - 10
    with pytest.raises(BundleError, match="expected a map of the fields of Manifest, seen list"):
        unpack(MANIFEST_MAGIC, Manifest, bundle_of(array(count, b"\xcc\xff" * count)), "m")


def test_shapes_within_the_limits() -> None:
    check_shape([], "s")
    check_shape([1] * MAX_RANK, "s")
    check_shape([1 << 20, 1 << 20], "s")  # 2^40, the limit
    check_product([MAX_DEVICES, 1], MAX_DEVICES, "mesh", "devices")
    check_range(7, 7, "r")


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ([1] * (MAX_RANK + 1), f"s: {MAX_RANK + 1} dimensions, expected at most {MAX_RANK}"),
        ([2] * 1_000_000, f"s: 1000000 dimensions, expected at most {MAX_RANK}"),
        ([1 << 62] * MAX_RANK, f"expected at most {MAX_TENSOR_ELEMENTS} elements"),
        ([1 << 20, 1 << 20, 2], f"s: 1048576x1048576x2, expected at most {MAX_TENSOR_ELEMENTS} elements"),
        ([0], r"s: expected positive dimensions, seen [0]"),
        ([-1, -1], r"s: expected positive dimensions, seen [-1, -1]"),
    ],
)
def test_shapes_past_the_limits(shape: list[int], message: str) -> None:
    with pytest.raises(BundleError) as error:
        check_shape(shape, "s")
    assert message in str(error.value)
    assert len(str(error.value)) < 500


def test_ranges_and_products_past_the_limits() -> None:
    for value in (0, -1, 8):
        with pytest.raises(BundleError, match=f"r: expected 1 to 7, seen {value}"):
            check_range(value, 7, "r")
    with pytest.raises(BundleError, match=f"g: 65536x65536x2, expected at most {MAX_PIXELS} pixels"):
        check_product([1 << 16, 1 << 16, 2], MAX_PIXELS, "g", "pixels")
