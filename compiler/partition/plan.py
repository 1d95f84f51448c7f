"""What a plan is: how one program's parameters and named values are cut over the mesh axes."""

import math
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

from mochi_aot.compiler.ir.types import REPLICATE, Placement, Shard
from mochi_aot.compiler.partition.errors import PlanError
from mochi_aot.compiler.partition.mesh import Mesh


@dataclass(frozen=True)
class Cut:
    """Along mesh axis `axis`, dimension `dim` is cut; each piece is a multiple of `multiple` long.

    `even`: the pieces have no padding, or the plan does not work.
    """

    axis: int
    dim: int
    multiple: int = 1
    even: bool = False


@dataclass(frozen=True)
class Plan:
    """Seeds for the propagation.

    `params` cuts the parameters whose checkpoint names match a pattern; they must divide evenly. `values` places the
    values that the reference annotates: exactly these cuts, whole along the other axes, padded where a length does not
    divide. Outputs are whole on every device except those named in `cut_outputs`, and so are inputs except those that
    `inputs` cuts. Of a parameter that a pattern of `gathered` names, and nothing else cuts, devices keep pieces, and
    gather them where they are used. A plan that is a `last_resort` wastes devices, which all do the same along some
    axis: it is for meshes that no other plan can cut.
    """

    name: str
    params: tuple[tuple[str, Cut], ...] = ()
    values: dict[str, tuple[Cut, ...]] = field(default_factory=dict)
    cut_outputs: frozenset[str] = frozenset()
    inputs: dict[str, tuple[Cut, ...]] = field(default_factory=dict)
    gathered: tuple[tuple[str, Cut], ...] = ()
    last_resort: bool = False


def param_placements(plan: Plan, name: str, shape: tuple[int, ...], mesh: Mesh) -> tuple[Placement, ...]:
    """Return where the plan puts a parameter. Raise PlanError when a dimension does not divide."""
    placements: list[Placement] = [REPLICATE, REPLICATE]
    local = list(shape)
    for pattern, cut in plan.params:
        if mesh[cut.axis] == 1 or not fnmatchcase(name, pattern):
            continue
        pieces = mesh[cut.axis]
        if local[cut.dim] % pieces:
            raise PlanError(
                f"plan {plan.name}: dimension {cut.dim} of {name} {list(shape)} leaves {local[cut.dim]}, which does "
                f"not divide by the {pieces} devices of mesh axis {cut.axis}"
            )
        local[cut.dim] //= pieces
        placements[cut.axis] = Shard(cut.dim, local[cut.dim])
    return tuple(placements)


def value_placements(cuts: tuple[Cut, ...], shape: tuple[int, ...], mesh: Mesh) -> tuple[Placement, ...]:
    """Return where a plan puts an annotated value: pieces of ceil(size / devices), rounded up to the cut's multiple.

    Where both axes cut one dimension, axis 0's piece is what the devices along axis 1 hold together. Raises PlanError
    where a length does not divide that has to.
    """
    placements: list[Placement] = [REPLICATE, REPLICATE]
    for cut in cuts:
        if mesh[cut.axis] > 1:
            axes = [other.axis for other in cuts if other.dim == cut.dim]
            pieces = math.prod(mesh[axis] for axis in axes)
            if cut.even and shape[cut.dim] % (pieces * cut.multiple):
                multiples = f" into multiples of {cut.multiple}" if cut.multiple > 1 else ""
                problem = f"does not divide by the {pieces} devices of mesh axis {cut.axis}{multiples}"
                raise PlanError(f"dimension {cut.dim} of {list(shape)} {problem}, as this target wants it")
            smallest = -(-shape[cut.dim] // pieces)
            smallest = -(-smallest // cut.multiple) * cut.multiple
            placements[cut.axis] = Shard(cut.dim, smallest * math.prod(mesh[axis] for axis in axes if axis > cut.axis))
    return tuple(placements)
