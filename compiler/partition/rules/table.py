"""The table of rules, and what rules share."""

from collections.abc import Callable

from mochi_aot.compiler.ir.program import Op, Value
from mochi_aot.compiler.ir.types import REPLICATE, Placement, Shard, TensorType
from mochi_aot.compiler.partition.partitioner import Partitioner

Rule = Callable[[Partitioner, Op, list[Value]], list[Value]]
RULES: dict[str, Rule] = {}


def rule(*opcodes: str) -> Callable[[Rule], Rule]:
    """Register a rule for opcodes."""

    def register(function: Rule) -> Rule:
        RULES.update(dict.fromkeys(opcodes, function))
        return function

    return register


def whole_along(type: TensorType, *dims: int) -> list[Placement]:
    """Return the type's placements with no partial sums left and nothing cut along `dims`."""
    return [p if isinstance(p, Shard) and p.dim not in dims else REPLICATE for p in type.placements]


def projected(target: list[Placement], result: tuple[int, ...], operand: tuple[int, ...]) -> list[Placement]:
    """Return the placements for an operand that broadcasts to a result placed as `target`: its broadcast dimensions
    stay whole."""
    offset = len(result) - len(operand)

    def project(placement: Placement) -> Placement:
        if not isinstance(placement, Shard):
            return placement
        dim = placement.dim - offset
        if dim < 0 or operand[dim] != result[placement.dim]:
            return REPLICATE
        return Shard(dim, placement.chunk)

    return [project(p) for p in target]


def followed(result: tuple[int, ...], operands: list[Value], *whole: int) -> list[Placement]:
    """Return the placements for a result that `operands` broadcast to: on each axis, those of the largest operand cut
    there.

    Dimensions of the result in `whole` are not cut. A dimension is cut along both axes only as one operand has it.
    """
    target: list[Placement] = [REPLICATE, REPLICATE]
    by_size = sorted(operands, key=lambda value: -value.type.nbytes)
    lifted = [_lifted(value.type, result, whole) for value in by_size]
    for axis in range(2):
        for cuts in lifted:
            if isinstance(cuts[axis], Shard) and _same_outside(cuts, target, axis):
                target[axis] = cuts[axis]
                break
    return target


def _lifted(type: TensorType, result: tuple[int, ...], whole: tuple[int, ...]) -> list[Placement]:
    """Return an operand's cuts as cuts of the result, without those of dimensions that are broadcast or to be whole."""
    offset = len(result) - len(type.shape)
    return [
        Shard(p.dim + offset, p.chunk)
        if isinstance(p, Shard) and p.dim + offset not in whole and type.shape[p.dim] == result[p.dim + offset]
        else REPLICATE
        for p in type.placements
    ]


def _same_outside(cuts: list[Placement], target: list[Placement], axis: int) -> bool:
    """Return whether the major axes cut the dimension that `axis` cuts alike in both."""
    dim = cut.dim if isinstance(cut := cuts[axis], Shard) else None
    pairs = zip(cuts[:axis], target[:axis], strict=True)
    return all(a == b or not any(isinstance(p, Shard) and p.dim == dim for p in (a, b)) for a, b in pairs)


def released(placements: list[Placement], axis: int) -> list[Placement]:
    """Return `placements` without the cut along `axis`, nor those that a minor axis made within its pieces."""
    cut = placements[axis]
    dim = cut.dim if isinstance(cut, Shard) else None
    return [
        REPLICATE if a == axis or (a > axis and isinstance(p, Shard) and p.dim == dim) else p
        for a, p in enumerate(placements)
    ]
