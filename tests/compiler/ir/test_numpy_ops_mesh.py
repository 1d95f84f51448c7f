"""Collectives as programs on meshes, with sizes that do not divide and poison in all padding.

Each property compares a partitioned program with the same computation on one device.
"""

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mochi_aot.compiler.ir.builder import Builder
from mochi_aot.compiler.ir.interpreter import run
from mochi_aot.compiler.ir.program import Attrs, Value
from mochi_aot.compiler.ir.types import PARTIAL, REPLICATE, Placement, Shard, TensorType
from mochi_aot.compiler.ir.verify import verify
from tests.compiler.ir.one_op import apply, near, normal

POISON = 1e4
TOLERANCE = 1e-5  # float32 sums of at most about 100 terms in another order

meshes = st.sampled_from([(1, 1), (1, 2), (2, 1), (2, 2), (2, 4), (4, 2), (1, 8)])
axes = st.sampled_from([0, 1])
sizes = st.integers(1, 11)
extras = st.integers(0, 1)


class Partitioned:
    """A builder for one mesh and one axis that is worked on; the other axis replicates."""

    def __init__(self, mesh: tuple[int, int], axis: int) -> None:
        self.builder = Builder("partitioned", mesh)
        self.axis = axis
        self.pieces = mesh[axis]
        self.inputs: dict[str, np.ndarray] = {}

    def type(self, shape: Sequence[int], placement: Placement, dtype: str = "float32") -> TensorType:
        placements = (placement, REPLICATE) if self.axis == 0 else (REPLICATE, placement)
        return TensorType(tuple(shape), dtype, placements)

    def cut(self, dim: int, size: int, extra: int = 0) -> Shard:
        return Shard(dim, -(-size // self.pieces) + extra)

    def input(self, array: np.ndarray, placement: Placement = REPLICATE) -> Value:
        name = f"x{len(self.inputs)}"
        self.inputs[name] = array
        return self.builder.input(name, self.type(array.shape, placement, str(array.dtype)), "latent")

    def run(self, *outputs: Value) -> list[np.ndarray]:
        for index, value in enumerate(outputs):
            self.builder.output(f"y{index}", value)
        verify(self.builder.program)
        results = run(self.builder.program, self.inputs, {}, poison=POISON)
        return [results[f"y{index}"] for index in range(len(outputs))]


@given(meshes, axes, sizes, extras, st.integers(0, 2))
def test_shard_then_all_gather_is_the_identity(
    mesh: tuple[int, int], axis: int, size: int, extra: int, dim: int
) -> None:
    p = Partitioned(mesh, axis)
    shape = [3, 3, 3]
    shape[dim] = size
    x = normal(1, *shape)
    placement = p.cut(dim, size, extra)
    attrs: Attrs = {"axis": axis, "dim": dim}
    (y,) = p.builder.emit_typed("shard", [p.input(x)], [p.type(shape, placement)], attrs | {"chunk": placement.chunk})
    (z,) = p.builder.emit_typed("all_gather", [y], [p.type(shape, REPLICATE)], attrs | {"size": size})
    sharded, gathered = p.run(y, z)
    np.testing.assert_array_equal(sharded, x)
    np.testing.assert_array_equal(gathered, x)


@given(meshes, axes, sizes, extras)
def test_reductions_of_a_split_product(mesh: tuple[int, int], axis: int, rows: int, extra: int) -> None:
    p = Partitioned(mesh, axis)
    inner = 3 * p.pieces
    x, w = normal(1, rows, inner), normal(2, 4, inner)
    operands = [p.input(x, p.cut(1, inner)), p.input(w, p.cut(1, inner))]
    (partial,) = p.builder.emit_typed("linear", operands, [p.type((rows, 4), PARTIAL)])
    (whole,) = p.builder.emit_typed("all_reduce", [partial], [p.type((rows, 4), REPLICATE)], {"axis": axis})
    placement = p.cut(0, rows, extra)
    attrs: Attrs = {"axis": axis, "dim": 0, "chunk": placement.chunk}
    (pieces,) = p.builder.emit_typed("reduce_scatter", [partial], [p.type((rows, 4), placement)], attrs)
    for result in p.run(whole, pieces):
        near(result, x @ w.T, TOLERANCE)


@given(meshes, axes, sizes, sizes, extras, extras)
def test_all_to_all_moves_the_cut(
    mesh: tuple[int, int], axis: int, first: int, second: int, extra: int, other: int
) -> None:
    p = Partitioned(mesh, axis)
    x = normal(1, first, 2, second)
    before, after = p.cut(0, first, extra), p.cut(2, second, other)
    attrs: Attrs = {"axis": axis, "gather_dim": 0, "size": first, "split_dim": 2, "chunk": after.chunk}
    (y,) = p.builder.emit_typed("all_to_all", [p.input(x, before)], [p.type(x.shape, after)], attrs)
    np.testing.assert_array_equal(p.run(y)[0], x)


@given(meshes, axes, sizes, extras, st.integers(0, 3), st.integers(0, 3))
def test_halo_holds_clamped_positions(
    mesh: tuple[int, int], axis: int, size: int, extra: int, before: int, after: int
) -> None:
    p = Partitioned(mesh, axis)
    x = np.arange(size, dtype=np.float32)
    placement = p.cut(0, size, extra)
    chunk = placement.chunk
    width = before + chunk + after
    attrs: Attrs = {"axis": axis, "dim": 0, "before": before, "after": after, "size": size, "chunk": chunk}
    result = p.type((p.pieces * width,), Shard(0, width))
    (y,) = p.builder.emit_typed("halo_exchange", [p.input(x, placement)], [result], attrs)
    positions = [min(max(c * chunk - before + i, 0), size - 1) for c in range(p.pieces) for i in range(width)]
    assert p.run(y)[0].tolist() == positions


@given(meshes, axes, st.integers(1, 9), extras, st.booleans())
def test_convolution_of_pieces_with_halo(mesh: tuple[int, int], axis: int, height: int, extra: int, bias: bool) -> None:
    p = Partitioned(mesh, axis)
    x, w = normal(1, 1, 2, height, 4, 3), normal(2, 2, 3, 3, 3, 3)
    rest = [normal(3, 2)] if bias else []
    placement = p.cut(2, height, extra)
    width = placement.chunk + 2
    halo: Attrs = {"axis": axis, "dim": 2, "before": 1, "after": 1, "size": height, "chunk": placement.chunk}
    wide = p.type((1, 2, p.pieces * width, 4, 3), Shard(2, width))
    (y,) = p.builder.emit_typed("halo_exchange", [p.input(x, placement)], [wide], halo)
    operands = [y, p.input(w), *map(p.input, rest)]
    inner: Attrs = {"stride": [1, 1, 1], "padding": [2, 0, 0, 1, 1]}
    (z,) = p.builder.emit_typed("causal_conv3d", operands, [p.type((1, 2, height, 4, 2), placement)], inner)
    whole: Attrs = {"stride": [1, 1, 1], "padding": [2, 1, 1, 1, 1]}
    near(p.run(z)[0], apply("causal_conv3d", whole, x, w, *rest)[0], TOLERANCE)


@given(meshes, axes, sizes, extras, st.integers(0, 4))
def test_ring_equals_joint_attention(mesh: tuple[int, int], axis: int, size: int, extra: int, visible: int) -> None:
    p = Partitioned(mesh, axis)
    visual = [normal(i, 2, size, 3, 4) for i in range(3)]
    text = [normal(i, 2, 4, 3, 4) for i in range(3, 6)]
    mask = np.broadcast_to(np.arange(4) < visible, (2, 4)).copy()
    placement = p.cut(1, size, extra)
    operands = [*(p.input(a, placement) for a in visual), *map(p.input, [*text, mask])]
    attrs: Attrs = {"scale": 0.5, "axis": axis, "size": size, "chunk": placement.chunk}
    types = [operands[0].type, operands[3].type]
    results = p.run(*p.builder.emit_typed("ring_joint_attention", operands, types, attrs))
    for result, expected in zip(results, apply("joint_attention", {"scale": 0.5}, *visual, *text, mask), strict=True):
        near(result, expected, TOLERANCE)


@given(meshes, axes, sizes, extras, st.sampled_from([2, 3]))
def test_group_norm_of_pieces(mesh: tuple[int, int], axis: int, size: int, extra: int, dim: int) -> None:
    p = Partitioned(mesh, axis)
    shape = [1, 2, 3, 3, 4]
    shape[dim] = size
    x, w, b = 3 + normal(1, *shape), normal(2, 4), normal(3, 4)
    placement = p.cut(dim, size, extra)
    values = [p.input(x, placement), p.input(w), p.input(b)]
    parts = p.type((p.pieces, 1, 1, 2, 2, 3), Shard(0, 1))
    valid = [[dim, axis, placement.chunk, size]]
    (stats,) = p.builder.emit_typed("group_norm_stats", values[:1], [parts], {"groups": 2, "valid": valid})
    gather: Attrs = {"axis": axis, "dim": 0, "size": p.pieces}
    (every,) = p.builder.emit_typed("all_gather", [stats], [p.type(parts.shape, REPLICATE)], gather)
    operands = [values[0], every, *values[1:]]
    (y,) = p.builder.emit_typed("group_norm_apply", operands, [values[0].type], {"eps": 1e-5})
    near(p.run(y)[0], apply("group_norm", {"groups": 2, "eps": 1e-5}, x, w, b)[0], TOLERANCE)


def test_statistics_of_a_frame_cut_by_both_axes() -> None:
    x, mesh = 3 + normal(1, 1, 2, 7, 5, 4), (2, 4)
    builder = Builder("p", mesh)
    value = builder.input("x", TensorType(x.shape, "float32", (Shard(2, 4), Shard(3, 2))), "latent")
    attrs: Attrs = {"groups": 2, "valid": [[2, 0, 4, 7], [3, 1, 2, 5]]}
    parts = TensorType((2, 4, 1, 2, 2, 3), "float32", (Shard(0, 1), Shard(1, 1)))
    (stats,) = builder.emit_typed("group_norm_stats", [value], [parts], attrs)
    builder.output("y", stats)
    verify(builder.program)
    y = run(builder.program, {"x": x}, {}, poison=POISON)["y"]
    assert y[:, :, 0, 0, 0, 0].tolist() == [[16, 16, 8, 0], [12, 12, 6, 0]]
    assert (y[:, 3, ..., 1:] == 0).all()
    near(y[1, 2, 0, :, :, 1], x[0, :, 4:, 4:].reshape(2, 3, 2, 2).mean((1, 3)), TOLERANCE)


@pytest.mark.parametrize("size", [1, 7, 16])
def test_statistics_where_both_axes_cut_one_dimension(size: int) -> None:
    x = 3 + normal(1, 1, 1, size, 3, 4)
    inner = -(-size // 8)
    placements = (Shard(2, 4 * inner), Shard(2, inner))
    builder = Builder("p", (2, 4))
    value = builder.input("x", TensorType(x.shape, "float32", placements), "latent")
    valid = [[2, 0, 4 * inner, size], [2, 1, inner, 4 * inner]]
    parts = TensorType((2, 4, 1, 1, 2, 3), "float32", (Shard(0, 1), Shard(1, 1)))
    (stats,) = builder.emit_typed("group_norm_stats", [value], [parts], {"groups": 2, "valid": valid})
    builder.output("y", stats)
    verify(builder.program)
    y = run(builder.program, {"x": x}, {}, poison=POISON)["y"]
    (whole,) = apply("group_norm_stats", {"groups": 2, "valid": []}, x)
    assert y[..., 0].sum() == whole[..., 0].sum()
    near((y[..., 0] * y[..., 1]).sum((0, 1)), (whole[..., 0] * whole[..., 1])[0, 0], TOLERANCE)


def test_gathering_within_a_piece_of_the_other_axis() -> None:
    x = np.arange(7, dtype=np.float32)
    nested, outer = (Shard(0, 4), Shard(0, 2)), (Shard(0, 4), REPLICATE)
    builder = Builder("p", (2, 2))
    value = builder.input("x", TensorType((7,), "float32", nested), "latent")
    gather: Attrs = {"axis": 1, "dim": 0, "size": 4}
    (joined,) = builder.emit_typed("all_gather", [value], [TensorType((7,), "float32", outer)], gather)
    cut: Attrs = {"axis": 1, "dim": 0, "chunk": 2}
    (again,) = builder.emit_typed("shard", [joined], [TensorType((7,), "float32", nested)], cut)
    builder.output("joined", joined)
    builder.output("again", again)
    verify(builder.program)
    results = run(builder.program, {"x": x}, {}, poison=POISON)
    assert results["joined"].tolist() == results["again"].tolist() == x.tolist()
