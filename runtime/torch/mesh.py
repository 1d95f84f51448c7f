"""The device mesh: rows x columns, devices numbered row by row. Axis 0 runs over the rows, axis 1 over the columns."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Mesh:
    """A mesh of rows x columns devices; this process is all of them, or `rank` alone."""

    rows: int
    columns: int
    rank: int | None = None

    @property
    def size(self) -> int:
        """Return the number of devices."""
        return self.rows * self.columns

    @property
    def held(self) -> Sequence[int]:
        """Return the devices whose tensors are in this process, in the order in which a Value has them."""
        return range(self.size) if self.rank is None else (self.rank,)

    def coordinate(self, device: int, axis: int) -> int:
        """Return where a device stands along an axis."""
        return divmod(device, self.columns)[axis]

    def groups(self, axis: int) -> list[list[int]]:
        """Return the devices that differ only in their coordinate on `axis`, in the order of that coordinate."""
        by_row = [[row * self.columns + column for column in range(self.columns)] for row in range(self.rows)]
        return ([list(group) for group in zip(*by_row, strict=True)], by_row)[axis]


def once_per_distinct(fn: Callable[..., Any], calls: Iterable[tuple[Any, ...]]) -> list[Any]:
    """Return fn(*call) for each call; calls with the very same objects are computed once and share their result.

    Devices that hold replicas share tensors, so a simulated mesh pays for replicated work only once. `fn` must be
    pure, and the objects of all calls must stay alive meanwhile, because they are told apart by identity.
    """
    results: dict[tuple[int, ...], Any] = {}
    outcome = []
    for call in calls:
        key = tuple(map(id, call))
        if key not in results:
            results[key] = fn(*call)
        outcome.append(results[key])
    return outcome
