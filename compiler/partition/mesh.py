"""The device mesh: rows are axis 0, columns axis 1; device r * C + c stands at (r, c)."""

import re

from mochi_aot.compiler.partition.errors import PlanTextError

Mesh = tuple[int, int]
MAX_DEVICES = 1024


def parse_mesh(text: str) -> Mesh:
    """Return `RxC` as (R, C). Raise PlanTextError for anything else."""
    match = re.fullmatch(r"([1-9][0-9]{0,3})x([1-9][0-9]{0,3})", text)
    if not match:
        raise PlanTextError(f"mesh {text!r} is not RxC with two positive numbers; write for example 2x4")
    rows, columns = int(match[1]), int(match[2])
    if rows * columns > MAX_DEVICES:
        raise PlanTextError(f"mesh {text} has {rows * columns} devices; at most {MAX_DEVICES} are supported")
    return rows, columns
