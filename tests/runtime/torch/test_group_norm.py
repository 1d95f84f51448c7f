"""Group norm in one piece and in parts, against mean and variance in float64.

Values of order 1 are off by a few 2^-24: 1e-5 in float32, with a mean of 10 standard deviations 1e-4; bfloat16 2^-6
for results up to 4.
"""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from mochi_aot.artifacts.schema import Placement
from mochi_aot.runtime.torch.collectives import COLLECTIVES
from mochi_aot.runtime.torch.mesh import Mesh
from mochi_aot.runtime.torch.placement import assemble, split
from mochi_aot.runtime.torch.positional import POSITIONAL
from mochi_aot.runtime.torch.types import Value
from tests.runtime.torch.programs import kernel, normal, spec

MESHES = [Mesh(1, 1), Mesh(1, 2), Mesh(2, 2), Mesh(2, 4)]


def by_frame(x: Tensor, groups: int, w: Tensor, b: Tensor, eps: float) -> Tensor:
    """Frame by frame and group by group."""
    y, width = torch.empty(x.shape, dtype=torch.float64), x.shape[-1] // groups
    for batch in range(x.shape[0]):
        for frame in range(x.shape[1]):
            for g in range(groups):
                part = x[batch, frame, :, :, g * width : (g + 1) * width].double()
                deviation = part - part.mean()
                y[batch, frame, :, :, g * width : (g + 1) * width] = (
                    deviation / (deviation.square().mean() + eps).sqrt()
                )
    return y * w.double() + b.double()


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 2.0**-6)])
@pytest.mark.parametrize(("groups", "channels"), [(4, 8), (8, 8), (1, 6)])
def test_group_norm_is_per_frame(groups: int, channels: int, dtype: torch.dtype, tolerance: float) -> None:
    x = normal(0, 2, 3, 4, 5, channels, dtype=dtype) + 1
    w, b = normal(1, channels, dtype=dtype), normal(2, channels, dtype=dtype)
    y = kernel("group_norm", x, w, b, groups=groups, eps=1e-3)
    assert y.dtype is dtype
    assert y.is_contiguous()
    torch.testing.assert_close(y.double(), by_frame(x, groups, w, b, 1e-3), rtol=tolerance, atol=tolerance)


def in_parts(mesh: Mesh, x: Tensor, rows: Placement | None, columns: Placement | None, groups: int = 4) -> Tensor:
    """Sharded x: statistics of each part, gathered, and applied. Padding is filled with large numbers."""
    layout = spec(list(x.shape), rows=rows, columns=columns)
    value = spoil_padding(split(x, layout, mesh), split(torch.ones(x.shape), layout, mesh))
    valid = [[p.dim, axis, p.chunk, x.shape[p.dim]] for axis, p in enumerate((rows, columns)) if p is not None]
    stats = POSITIONAL["group_norm_stats"](mesh, {"groups": groups, "valid": valid})(value)
    for axis, count in enumerate((mesh.rows, mesh.columns)):
        if valid:
            stats = COLLECTIVES["all_gather"](mesh, {"dim": axis, "axis": axis, "size": count})(stats)
    w, b = normal(1, x.shape[-1], dtype=x.dtype), normal(2, x.shape[-1], dtype=x.dtype)
    parts = [kernel("group_norm_apply", a, s, w, b, eps=1e-3) for a, s in zip(value, stats, strict=True)]
    assert all(part.isfinite().all() and part.dtype is x.dtype for part in parts)
    return assemble(parts, layout, mesh)


def spoil_padding(value: Value, real: Value) -> Value:
    return [torch.where(where == 1, x, torch.tensor(1e3, dtype=x.dtype)) for x, where in zip(value, real, strict=True)]


@st.composite
def sharded(draw: st.DrawFn) -> tuple[Mesh, list[int], Placement, Placement]:
    """Height over the rows and width over the columns, in chunks that do not divide."""
    mesh = draw(st.sampled_from(MESHES))
    shape = [1, 2, draw(st.integers(1, 7)), draw(st.integers(1, 7)), 8]
    rows, columns = (
        Placement(dim, -(-shape[dim] // count) + draw(st.integers(0, 1)))
        for dim, count in ((2, mesh.rows), (3, mesh.columns))
    )
    return mesh, shape, rows, columns


@given(sharded())
def test_statistics_of_parts_make_those_of_the_whole(case: tuple[Mesh, list[int], Placement, Placement]) -> None:
    mesh, shape, rows, columns = case
    x = normal(0, *shape) + 3
    expected = by_frame(x, 4, normal(1, 8), normal(2, 8), 1e-3)
    torch.testing.assert_close(in_parts(mesh, x, rows, columns).double(), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("mesh", MESHES)
def test_sharded_time_leaves_frames_without_a_pixel(mesh: Mesh) -> None:
    """Frames past the end count nothing, and must stay finite."""
    x = normal(0, 1, 5, 3, 4, 8)
    expected = by_frame(x, 4, normal(1, 8), normal(2, 8), 1e-3)
    y = frames_in_parts(mesh, x)
    torch.testing.assert_close(y.double(), expected, rtol=1e-4, atol=1e-4)


def frames_in_parts(mesh: Mesh, x: Tensor) -> Tensor:
    chunk = -(-x.shape[1] // mesh.columns)
    layout = spec(list(x.shape), columns=Placement(1, chunk))
    value = split(x, layout, mesh)
    stats = POSITIONAL["group_norm_stats"](mesh, {"groups": 4, "valid": [[1, 1, chunk, x.shape[1]]]})(value)
    w, b = normal(1, x.shape[-1]), normal(2, x.shape[-1])
    parts = [kernel("group_norm_apply", a, s, w, b, eps=1e-3) for a, s in zip(value, stats, strict=True)]
    assert all(part.isfinite().all() for part in parts)
    return assemble(parts, layout, mesh)


def test_a_dimension_cut_twice() -> None:
    """Width 9 in rows of 5, these in chunks of 3: the last device of each row holds 2 and 1 real columns."""
    x = normal(0, 1, 1, 2, 9, 8)
    rows, columns, mesh = Placement(3, 5), Placement(3, 3), Mesh(2, 2)
    layout = spec(list(x.shape), rows=rows, columns=columns)
    value = split(x, layout, mesh)
    valid = [[3, 0, 5, 9], [3, 1, 3, 5]]
    stats = POSITIONAL["group_norm_stats"](mesh, {"groups": 4, "valid": valid})(value)
    assert [float(s[0, 0, 0, 0, 0, 0]) for s in stats] == [2 * 2 * n for n in (3, 2, 3, 1)]


def test_statistics_are_count_mean_and_squared_deviations() -> None:
    x = torch.tensor([1.0, 2.0, 3.0, 6.0]).reshape(1, 1, 1, 2, 2)
    (stats,) = POSITIONAL["group_norm_stats"](Mesh(1, 1), {"groups": 1, "valid": []})([x])
    assert stats.shape == (1, 1, 1, 1, 1, 3)
    assert stats.flatten().tolist() == [4, 3, 14]


def test_bfloat16_statistics_are_float32() -> None:
    x = normal(0, 1, 2, 5, 7, 8, dtype=torch.bfloat16)
    y = in_parts(Mesh(1, 2), x, None, Placement(3, 4))
    w, b = normal(1, 8, dtype=torch.bfloat16), normal(2, 8, dtype=torch.bfloat16)
    torch.testing.assert_close(y.double(), by_frame(x, 4, w, b, 1e-3), rtol=2.0**-6, atol=2.0**-6)


def test_a_large_mean_does_not_cancel() -> None:
    """Mean 10, deviation 1: x * scale + shift loses log2(10) of 24 bits."""
    x = normal(0, 1, 1, 6, 6, 8) + 10
    y = in_parts(Mesh(2, 2), x, Placement(2, 3), Placement(3, 4))
    torch.testing.assert_close(y.double(), by_frame(x, 4, normal(1, 8), normal(2, 8), 1e-3), rtol=1e-4, atol=1e-4)
