"""Types of values: shape, dtype and, once a program is partitioned, one placement per mesh axis."""

from dataclasses import dataclass, replace

from mochi_aot.artifacts.dtypes import tensor_bytes


@dataclass(frozen=True)
class Shard:
    """Dimension `dim` is cut along a mesh axis in pieces of `chunk`: coordinate c holds [c * chunk, (c + 1) * chunk).

    Positions past the logical size are padding with undefined, finite contents. Two axes may cut the same
    dimension; then axis 0 is the major one and its chunk is a whole number of axis 1's chunks.
    """

    dim: int
    chunk: int


@dataclass(frozen=True)
class Partial:
    """Every device along the axis holds one summand of the value."""


@dataclass(frozen=True)
class Replicate:
    """Every device along the axis holds the whole value."""


Placement = Shard | Partial | Replicate
PARTIAL = Partial()
REPLICATE = Replicate()


@dataclass(frozen=True)
class TensorType:
    """Global `shape`, `dtype`, and `placements`: one per mesh axis, or empty while the program has no mesh."""

    shape: tuple[int, ...]
    dtype: str
    placements: tuple[Placement, ...] = ()

    @property
    def local_shape(self) -> tuple[int, ...]:
        """The extent that one device holds, padding included."""
        local = list(self.shape)
        for placement in self.placements:
            if isinstance(placement, Shard):
                local[placement.dim] = placement.chunk
        return tuple(local)

    @property
    def nbytes(self) -> int:
        """Bytes of the whole value, unpadded."""
        return tensor_bytes(self.dtype, self.shape)

    @property
    def local_nbytes(self) -> int:
        """Bytes that one device holds."""
        return tensor_bytes(self.dtype, self.local_shape)

    def shard_axes(self, dim: int) -> list[int]:
        """Return the mesh axes that cut dimension `dim`, major first."""
        return [a for a, p in enumerate(self.placements) if isinstance(p, Shard) and p.dim == dim]

    def placed(self, placements: tuple[Placement, ...]) -> "TensorType":
        """Return this type with other placements."""
        return replace(self, placements=placements)
