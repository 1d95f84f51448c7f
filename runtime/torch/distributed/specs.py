"""A TensorSpec as JSON has it, for the one message that another process needs it in."""

from typing import Any

from mochi_aot.artifacts.schema import Placement, TensorSpec


def spec_numbers(spec: TensorSpec) -> list[Any]:
    """Return what `spec_of` makes the same spec of."""
    placements = [None if placement is None else [placement.dim, placement.chunk] for placement in spec.placements]
    return [spec.dtype, spec.shape, spec.local_shape, placements]


def spec_of(numbers: list[Any]) -> TensorSpec:
    """Return the spec of which `spec_numbers` made these."""
    dtype, shape, local_shape, placements = numbers
    return TensorSpec(dtype, shape, local_shape, [None if place is None else Placement(*place) for place in placements])
