"""What the golden runner passes around."""

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor

# A tensor on each chip, row by row of the mesh. Replicas may be the same object.
Value = list[Tensor]
Attrs = Mapping[str, Any]
# (attrs, mesh, *operands) -> a Value for each result. Operands are Values, in the instruction's order.
Golden = Callable[..., list[Value]]


class GoldenError(Exception):
    """A program that cannot be run as it is written, or an op used in a way that has no definition here."""
