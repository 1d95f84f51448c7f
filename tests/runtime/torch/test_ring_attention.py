"""The ring, on meshes whose sequence does not divide, against attention over the whole sequence.

float32 merges add a few roundings of 2^-24 to weights that sum to 1: 1e-5. In bfloat16 each block's result is rounded
to 2^-9 relative before the merge: 2^-6 leaves room for values up to 3.
"""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from mochi_aot.artifacts.schema import Placement
from mochi_aot.runtime.torch.attention import by_head
from mochi_aot.runtime.torch.collectives import COLLECTIVES
from mochi_aot.runtime.torch.mesh import Mesh
from mochi_aot.runtime.torch.placement import assemble, split
from mochi_aot.runtime.torch.ring_attention import attend, attend_by_scores
from mochi_aot.runtime.torch.types import Value
from tests.runtime.torch import attention_by_rows
from tests.runtime.torch.attention_by_rows import mask_of, operands
from tests.runtime.torch.programs import normal, spec


def run_ring(mesh: Mesh, axis: int, chunk: int, tensors: list[Tensor], mask: Tensor) -> tuple[Tensor, Value]:
    """The visual result, put together, and the text result of each device. Padding is filled with large numbers."""
    size = tensors[0].shape[1]
    placements: list[Placement | None] = [None, None]
    placements[axis] = Placement(1, chunk)
    layout = spec(list(tensors[0].shape), rows=placements[0], columns=placements[1])
    visual = [split(x, layout, mesh) for x in tensors[:3]]
    for value in visual:
        for device, x in enumerate(value):
            x[:, max(0, size - mesh.coordinate(device, axis) * chunk) :] = 1e3
    text = [[x] * mesh.size for x in [*tensors[3:], mask]]
    attrs = {"scale": 0.4, "axis": axis, "size": size, "chunk": chunk}
    out, out_text = COLLECTIVES["ring_joint_attention"](mesh, attrs)(*visual, *text)
    assert all(x.isfinite().all() for x in [*out, *out_text])
    return assemble(out, layout, mesh), out_text


@given(
    mesh=st.sampled_from([Mesh(1, 1), Mesh(1, 2), Mesh(2, 2), Mesh(2, 4), Mesh(3, 1)]),
    axis=st.integers(0, 1),
    size=st.integers(1, 9),
    spare=st.integers(0, 3),
    valid=st.lists(st.sets(st.integers(0, 4)).map(sorted), min_size=2, max_size=2),
)
def test_a_ring_attends_to_the_whole(mesh: Mesh, axis: int, size: int, spare: int, valid: list[list[int]]) -> None:
    chunk = -(-size // (mesh.rows, mesh.columns)[axis]) + spare
    tensors, mask = operands(size, 5), mask_of(5, *valid)
    out, out_text = run_ring(mesh, axis, chunk, tensors, mask)
    expected, expected_text = attention_by_rows.joint_attention(tensors, mask, 0.4)
    torch.testing.assert_close(out.double(), expected, rtol=0, atol=1e-5)
    torch.testing.assert_close(out_text[0].double(), expected_text, rtol=0, atol=1e-5)


def test_text_replicas_are_equal_to_the_last_bit() -> None:
    tensors, mask = operands(7, 5), mask_of(5, [0, 1, 2], [3])
    _, out_text = run_ring(Mesh(1, 4), 1, 2, tensors, mask)
    assert all(torch.equal(x, out_text[0]) for x in out_text)


def test_bfloat16() -> None:
    tensors, mask = operands(7, 5, torch.bfloat16), mask_of(5, [0, 1, 2], [])
    out, out_text = run_ring(Mesh(1, 4), 1, 2, tensors, mask)
    assert out.dtype is out_text[0].dtype is torch.bfloat16
    expected, expected_text = attention_by_rows.joint_attention(tensors, mask, 0.4)
    torch.testing.assert_close(out.double(), expected, rtol=0, atol=2.0**-6)
    torch.testing.assert_close(out_text[0].double(), expected_text, rtol=0, atol=2.0**-6)


@pytest.mark.parametrize("scale", [0.4, 40.0])
def test_both_ways_to_attend_agree(scale: float) -> None:
    """The CPU's kernel and the definition; scores of several hundred must not overflow."""
    q, k, v = normal(0, 5, 2, 8), normal(1, 9, 2, 8), normal(2, 9, 2, 8)
    fused, plain = attend(q, k, v, scale), attend_by_scores(by_head(q), by_head(k), by_head(v), scale)
    torch.testing.assert_close(fused.out, plain.out, rtol=0, atol=1e-4)
    torch.testing.assert_close(fused.lse, plain.lse, rtol=1e-6, atol=1e-5)


@pytest.mark.parametrize("most_bytes", [1, 4 * 2 * 9 * 3, 1 << 20])
def test_queries_some_at_a_time(most_bytes: int) -> None:
    """One, three, and all five; matrix products of other sizes may round otherwise."""
    q, k, v = normal(0, 5, 2, 8), normal(1, 9, 2, 8), normal(2, 9, 2, 8)
    some, fused = attend_by_scores(by_head(q), by_head(k), by_head(v), 0.4, most_bytes), attend(q, k, v, 0.4)
    torch.testing.assert_close(some.out, fused.out, rtol=0, atol=1e-5)
    torch.testing.assert_close(some.lse, fused.lse, rtol=0, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_what_a_gpu_is_asked_for(dtype: torch.dtype) -> None:
    """Tensors without numbers: torch has such calls, and their results have these shapes. No GPU has run them."""
    q, k = (torch.empty(tokens, 24, 128, dtype=dtype, device="meta") for tokens in (300, 70))
    part = attend(q, k, k, 0.1)
    assert part.sequence().shape == (300, 24, 128) and part.lse.shape == (1, 24, 300)
    assert part.out.dtype is part.lse.dtype is torch.float32


def test_merging_is_attention_to_both_blocks() -> None:
    """Also when nearly all weight is in one of the blocks."""
    q, k, v = normal(0, 5, 2, 8), normal(1, 9, 2, 8), normal(2, 9, 2, 8)
    k[4:] *= 50
    merged = attend(q, k[:4], v[:4], 0.4).merged(attend(q, k[4:], v[4:], 0.4))
    whole = attend(q, k, v, 0.4)
    torch.testing.assert_close(merged.out, whole.out, rtol=0, atol=1e-4)
    torch.testing.assert_close(merged.lse, whole.lse, rtol=1e-6, atol=1e-5)
