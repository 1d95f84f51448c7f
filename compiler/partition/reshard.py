"""Moving a value from one placement to another: which collectives, in which order."""

from dataclasses import dataclass, field

from mochi_aot.compiler.ir.program import Attrs
from mochi_aot.compiler.ir.types import REPLICATE, Partial, Placement, Shard, TensorType

Placements = tuple[Placement, ...]


@dataclass(frozen=True)
class Move:
    """One collective and the type of its result."""

    opcode: str
    attrs: Attrs
    type: TensorType


def moves(source: TensorType, target: Placements) -> list[Move]:
    """Return the collectives that take `source` to the placements `target`, which are partial only where `source` is.

    Sums come first (a reduce_scatter where a cut is wanted), then gathers from the minor axis up, then cuts from the
    major axis down; a cut that changes its dimension is an all_to_all. Where both axes cut one dimension, only the
    minor one can be gathered or cut: the pieces of the other are not contiguous on a device.
    """
    path = _Path(source, target)
    axes = range(len(target))
    for axis in axes:
        path.sum(axis)
    for axis in reversed(axes):
        path.leave(axis)
    for axis in axes:
        path.cut(axis)
    return path.steps


@dataclass
class _Path:
    """The type so far, and the steps that led to it."""

    type: TensorType
    target: Placements
    steps: list[Move] = field(default_factory=list)

    def _step(self, opcode: str, axis: int, placement: Placement, **attrs: int) -> None:
        self.type = self.type.placed(_changed(self.type.placements, axis, placement))
        self.steps.append(Move(opcode, {"axis": axis, **attrs}, self.type))

    def sum(self, axis: int) -> None:
        """Add up partial sums, straight into the pieces that are wanted if they can be made now."""
        wanted = self.target[axis]
        if not isinstance(self.type.placements[axis], Partial) or isinstance(wanted, Partial):
            return
        if isinstance(wanted, Shard) and wanted.dim not in self._outer_dims(axis) | self._inner_dims(axis):
            self._step("reduce_scatter", axis, wanted, dim=wanted.dim, chunk=wanted.chunk)
        else:
            self._step("all_reduce", axis, REPLICATE)

    def leave(self, axis: int) -> None:
        """Give up a cut that is not wanted, or that a major axis is to change on the same dimension."""
        held, wanted, outer = self.type.placements[axis], self.target[axis], self._outer_dims(axis)
        if not isinstance(held, Shard) or (held == wanted and held.dim not in outer):
            return
        size = self.type.placed(_changed(self.type.placements, axis, REPLICATE)).local_shape[held.dim]
        if isinstance(wanted, Shard) and wanted.dim not in outer | {held.dim}:
            attrs = {"gather_dim": held.dim, "size": size, "split_dim": wanted.dim, "chunk": wanted.chunk}
            self._step("all_to_all", axis, wanted, **attrs)
        else:
            self._step("all_gather", axis, REPLICATE, dim=held.dim, size=size)

    def cut(self, axis: int) -> None:
        """Make a cut that is wanted and not yet there."""
        wanted = self.target[axis]
        if isinstance(wanted, Shard) and self.type.placements[axis] != wanted:
            self._step("shard", axis, wanted, dim=wanted.dim, chunk=wanted.chunk)

    def _outer_dims(self, axis: int) -> set[int]:
        """Return the dimensions that a major axis, on its way to something else, cuts or will cut."""
        pairs = [pair for pair in zip(self.type.placements[:axis], self.target, strict=False) if pair[0] != pair[1]]
        return {p.dim for pair in pairs for p in pair if isinstance(p, Shard)}

    def _inner_dims(self, axis: int) -> set[int]:
        """Return the dimensions that a minor axis cuts."""
        return {p.dim for p in self.type.placements[axis + 1 :] if isinstance(p, Shard)}


def _changed(placements: Placements, axis: int, placement: Placement) -> Placements:
    return (*placements[:axis], placement, *placements[axis + 1 :])
