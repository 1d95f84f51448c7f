import pytest
import torch
from torch.nn import functional as F

from tests.ttnn_golden.chips import MESH, golden, joined, normal, on_one, spread
from tests.ttnn_golden.local import golden_function
from tests.ttnn_golden.types import GoldenError

RING = "transformer.ring_joint_scaled_dot_product_attention"
ROTARY = "experimental.rotary_embedding_llama"


def swap_pairs() -> torch.Tensor:
    """x @ it turns each pair (a, b) into (-b, a)."""
    matrix = torch.zeros(1, 1, 32, 32)
    for even in range(0, 32, 2):
        matrix[0, 0, even + 1, even], matrix[0, 0, even, even + 1] = -1, 1
    return matrix


@pytest.mark.parametrize("table_heads", [1, 3])
def test_rotary_embedding_turns_pairs_as_complex_numbers(table_heads):
    x, angle = normal(0, 2, 3, 5, 64), normal(1, 1, table_heads, 5, 32)
    tables = [table.repeat_interleave(2, dim=-1) for table in (angle.cos(), angle.sin())]
    turned = on_one(ROTARY, x, *tables, swap_pairs(), is_decode_mode=False)
    pairs = torch.view_as_complex(x.unflatten(-1, (-1, 2)).contiguous()) * torch.polar(torch.ones_like(angle), angle)
    torch.testing.assert_close(turned, torch.view_as_real(pairs).flatten(-2))


def test_rotary_embedding_has_no_decode_mode_here():
    table = torch.ones(1, 1, 1, 32)
    with pytest.raises(GoldenError, match="is_decode_mode"):
        on_one(ROTARY, table, table, table, swap_pairs())


def test_attention_with_a_mask():
    q, k, v = (normal(seed, 1, 2, 8, 16) for seed in range(3))
    mask = normal(3, 1, 1, 8, 8)
    result = on_one(
        "transformer.scaled_dot_product_attention", q, k, v, mask, kw=["attn_mask"], is_causal=False, scale=0.3
    )
    torch.testing.assert_close(result, F.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=0.3))


# Two heads over the rows; 32 visual tokens, the last 5 of them padding, and 12 of text over the columns.
SIZE = 27
VISUAL = [normal(seed, 1, 2, 32, 16) for seed in range(3)]
TEXT = [normal(seed, 1, 2, 12, 16) for seed in range(3, 6)]


def ring(length: int) -> list[torch.Tensor]:
    """Visual and text results, joined."""
    operands = [spread(x, MESH, rows=1, columns=2) for x in VISUAL + TEXT]
    lengths = [torch.tensor([length])] * MESH.size
    results = golden(RING, *operands, lengths, kw=["logical_l"], axis=1, size=SIZE, scale=0.3)
    return [joined(result, MESH, rows=1, columns=2) for result in results]


def expected(length: int):
    q, k, v = (torch.cat(pair, dim=2) for pair in zip(VISUAL, TEXT, strict=True))
    attended = [*range(SIZE), *range(32, 32 + length)]
    out = F.scaled_dot_product_attention(q, k[:, :, attended], v[:, :, attended], scale=0.3)
    return out[:, :, :32], out[:, :, 32:]


@pytest.mark.parametrize("length", [0, 1, 5, 12])
def test_ring_attention_with_text_spread_over_the_ring(length):
    for actual, wanted in zip(ring(length), expected(length), strict=True):
        torch.testing.assert_close(actual, wanted)


@pytest.mark.parametrize("length", [1, 7])
def test_ring_attention_is_ttnns_definition_on_gathered_tensors(length):
    visual, text, _ = golden_function(RING)(*VISUAL, *TEXT, logical_n=SIZE, logical_l=length, scale=0.3)
    ours = ring(length)
    torch.testing.assert_close(ours[0], visual)
    torch.testing.assert_close(ours[1][:, :, :length], text)  # it has no results for the other text queries
