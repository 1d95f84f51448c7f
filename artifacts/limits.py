"""How much of everything a bundle may say: bounds far above what any model needs, and below what harms a host.

They are compared before anything is made of the numbers, so that neither memory nor time follows what a file claims.
"""

from collections.abc import Iterable
from typing import Any

from mochi_aot.artifacts.errors import BundleError

# Values in a manifest or a program, maps and lists included. At full size a program has about half a million.
MAX_ELEMENTS = 1 << 21
MAX_STRING_BYTES = 1 << 16
MAX_RANK = 16
# Elements of one tensor, all devices together: the activations of a published video have 2^33.
MAX_TENSOR_ELEMENTS = 1 << 40
# Of an array that the host makes or gives, but for frames: embeddings have 2^20 elements at full size.
MAX_HOST_ELEMENTS = 1 << 28
MAX_DEVICES = 1 << 12
MAX_TEXT_LENGTH = 1 << 16  # tokens
MAX_STEP_CAPACITY = 1 << 16
MAX_PIXELS = 1 << 31  # of all frames of a video: 163 of 4096 x 3072


class ElementCounter:
    """Hooks of a msgpack unpacker that count as lists and maps end, and stop it past MAX_ELEMENTS."""

    def __init__(self) -> None:
        self._count = 0

    def count_list(self, items: list[Any]) -> list[Any]:
        """Return the list. Raise ValueError past the limit."""
        self._add(len(items))
        return items

    def count_map(self, pairs: list[tuple[Any, Any]]) -> dict[Any, Any]:
        """Return the map. Raise ValueError past the limit, and for a key that is named twice."""
        self._add(2 * len(pairs))
        result = dict(pairs)
        if len(result) != len(pairs):
            raise ValueError("a map names a key twice")
        return result

    def _add(self, count: int) -> None:
        self._count += 1 + count
        if self._count > 2 * MAX_ELEMENTS:  # each is counted where it ends, and as an element
            raise ValueError(f"more than {MAX_ELEMENTS} values")


def check_shape(shape: list[int], where: str, limit: int = MAX_TENSOR_ELEMENTS) -> None:
    """Raise BundleError unless the dimensions are positive, and few, and their product is at most `limit`.

    [] is a scalar.
    """
    if len(shape) > MAX_RANK:
        raise BundleError(f"{where}: {len(shape)} dimensions, expected at most {MAX_RANK}")
    if not all(size >= 1 for size in shape):
        raise BundleError(f"{where}: expected positive dimensions, seen {shape}")
    check_product(shape, limit, where, "elements")


def check_product(sizes: Iterable[int], limit: int, where: str, what: str) -> None:
    """Raise BundleError if the product of positive numbers is above `limit`."""
    total, seen = 1, list(sizes)
    for size in seen:
        total *= size
        if total > limit:
            raise BundleError(f"{where}: {'x'.join(map(str, seen))}, expected at most {limit} {what}")


def check_range(value: int, limit: int, where: str) -> None:
    """Raise BundleError unless the number is from 1 to `limit`."""
    if not 1 <= value <= limit:
        raise BundleError(f"{where}: expected 1 to {limit}, seen {value}")
