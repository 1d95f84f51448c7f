"""Hypothesis strategies: meshes, shapes and the placements that a program may have on them."""

from hypothesis import strategies as st

from mochi_aot.compiler.ir.types import PARTIAL, REPLICATE, Placement, Shard
from mochi_aot.compiler.partition.mesh import Mesh

Shape = tuple[int, ...]
Placements = tuple[Placement, ...]

meshes = st.tuples(st.integers(1, 4), st.integers(1, 4)).filter(lambda mesh: mesh[0] * mesh[1] <= 8)


def shapes(min_rank: int = 1, max_rank: int = 3) -> st.SearchStrategy[Shape]:
    return st.lists(st.integers(1, 6), min_size=min_rank, max_size=max_rank).map(tuple)


def covering(size: int, pieces: int) -> st.SearchStrategy[int]:
    """Chunks of which so many pieces cover `size`: mostly the smallest, or longer ones, which leave more padding."""
    smallest = -(-size // pieces)
    return st.sampled_from([smallest, smallest, smallest + 1, size])


@st.composite
def placements(draw: st.DrawFn, shape: Shape, mesh: Mesh, partial: bool = False) -> Placements:
    """Any that verify; `partial` ones may be sums over some axes."""
    kinds = [None, *range(len(shape))] + (["sum"] if partial else [])
    kind = [draw(st.sampled_from(kinds)) for _ in mesh]
    if isinstance(kind[0], int) and kind[0] == kind[1]:
        return draw(nested(kind[0], shape[kind[0]], mesh))

    def placement(axis: int) -> Placement:
        dim = kind[axis]
        if not isinstance(dim, int):
            return REPLICATE if dim is None else PARTIAL
        return Shard(dim, draw(covering(shape[dim], mesh[axis])))

    return tuple(placement(axis) for axis in range(2))


@st.composite
def nested(draw: st.DrawFn, dim: int, size: int, mesh: Mesh) -> Placements:
    """Both axes cut one dimension: axis 0's piece holds some of axis 1's."""
    count = draw(st.integers(1, mesh[1]))
    minor = draw(covering(size, mesh[0] * count))
    return (Shard(dim, minor * count), Shard(dim, minor))


@st.composite
def even_placements(draw: st.DrawFn, shape: Shape, mesh: Mesh) -> Placements:
    """Any without padding, as parameters have."""
    local = list(shape)
    placements: list[Placement] = []
    for pieces in mesh:
        dim = draw(st.sampled_from([None, *(d for d, n in enumerate(local) if n % pieces == 0)]))
        if dim is None:
            placements.append(REPLICATE)
        else:
            local[dim] //= pieces
            placements.append(Shard(dim, local[dim]))
    return tuple(placements)
