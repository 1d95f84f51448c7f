"""RoPE, and attention around a ring with what ttnn 0.81.1 does wrong."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from mochi_aot.runtime.torch.mesh import Mesh
from mochi_aot.tools.golden.definitions.ring import attended_text
from mochi_aot.tools.golden.local import golden_function
from mochi_aot.tools.golden.types import ChipMesh, GoldenError
from tests.ring_attrs import RING, ring_attrs
from tests.ttnn_golden.cases import swap_pairs, turned
from tests.ttnn_golden.chips import MESH, executed, joined, normal, on_one, spread

ROTARY = "experimental.rotary_embedding_llama"


@pytest.mark.parametrize("table_heads", [1, 3])
def test_rotary_embedding_turns_pairs_as_complex_numbers(table_heads):
    x, angle = normal(0, 2, 3, 5, 64), normal(1, 1, table_heads, 5, 32)
    tables = [table.repeat_interleave(2, dim=-1) for table in (angle.cos(), angle.sin())]
    result = on_one(ROTARY, x, *tables, swap_pairs(), is_decode_mode=False, compute="hifi4")
    torch.testing.assert_close(result, turned(x, angle))


def test_rotary_embedding_has_no_decode_mode_here():
    table = torch.ones(1, 1, 1, 32)
    with pytest.raises(GoldenError, match="is_decode_mode"):
        on_one(ROTARY, table, table, table, swap_pairs(), compute="hifi4")


# Two heads over the rows; 128 tokens over the columns, the last 5 of them padding, and 256 of text, 64 a chip.
SIZE, SHARE = 123, 64
VISUAL = [normal(seed, 1, 2, 128, 32) for seed in range(3)]
TEXT = [normal(seed, 1, 2, 4 * SHARE, 32) for seed in range(3, 6)]
EXACT = ChipMesh(MESH, rounded=False)


def ring(
    lengths: int | list[int], chunk: int = 64, mesh: ChipMesh = EXACT, text: list[torch.Tensor] | None = None
) -> list[torch.Tensor]:
    """Visual and text results, joined. `lengths` are each chip's."""
    operands = [spread(x, MESH, rows=1, columns=2) for x in VISUAL + (text or TEXT)]
    each = lengths if isinstance(lengths, list) else [lengths] * MESH.size
    buffers = [1, 1, 128, 32], [1, 1, 4 * SHARE, 32]
    attrs = ring_attrs(*buffers, SIZE, dtype="float32", program_config=[32, chunk], scale=0.3)
    results = executed(RING, *operands, [torch.tensor([length]) for length in each], mesh=mesh, **attrs)
    return [joined(result.pieces, MESH, rows=1, columns=2) for result in results]


def expected(attended: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
    """With the text tokens that are attended to, by torch's own attention."""
    q, k, v = (torch.cat(pair, dim=2) for pair in zip(VISUAL, TEXT, strict=True))
    seen = [*range(SIZE), *(128 + token for token in attended)]
    out = F.scaled_dot_product_attention(q, k[:, :, seen], v[:, :, seen], scale=0.3)
    return out[:, :, :128], out[:, :, 128:]


@pytest.mark.parametrize("length", [0, 1, 31, 32, 63, 64, 65, 100, 128, 200, 255, 256])
def test_ring_attention_with_text_spread_over_the_ring(length):
    for actual, wanted in zip(ring(length), expected(list(range(length))), strict=True):
        torch.testing.assert_close(actual, wanted)


@pytest.mark.parametrize("length", [1, 7])
def test_ring_attention_is_ttnns_definition_on_gathered_tensors(length):
    visual, text, _ = golden_function(RING)(*VISUAL, *TEXT, logical_n=SIZE, logical_l=length, scale=0.3)
    ours = ring(length)
    torch.testing.assert_close(ours[0], visual)
    torch.testing.assert_close(ours[1][:, :, :length], text)  # it has no results for the other text queries


def test_tokens_are_lost_where_a_share_has_no_whole_number_of_chunks():
    """Length 100, share 64, chunk 96: of the first share's second tile, the tokens after its fourth are not seen."""
    spoiled = ring(100, chunk=96)
    for actual, wanted in zip(spoiled, expected([*range(36), *range(64, 100)]), strict=True):
        torch.testing.assert_close(actual, wanted)
    right = ring(100, chunk=96, mesh=ChipMesh(MESH, rounded=False, defects=False))
    for actual, wanted in zip(right, expected(list(range(100))), strict=True):
        torch.testing.assert_close(actual, wanted)
    assert np.corrcoef(spoiled[0].flatten(), right[0].flatten())[0, 1] < 0.99


def test_the_text_is_seen_whole_but_for_the_defect():
    """What was found by running the kernels: right where the length is one of whole tiles, or within a share, or where
    chunks divide shares; and with shares of one tile, every full share keeps its first length % 32 tokens."""
    for length in range(257):
        whole = list(range(length))
        assert attended_text(length, 256, 4, 64) == attended_text(length, 64, 4, 64) == whole
        assert attended_text(length, 256, 4, 96) == whole  # where each chip is given all of the text
        seen = attended_text(length, 32, 8, 64)
        if length % 32 == 0 or length <= 32:
            assert seen == whole
        else:
            full = length // 32 * 32
            assert seen == [token for token in whole if token >= full or token % 32 < length % 32]


def test_only_the_last_tile_of_a_share_is_spoiled():
    assert attended_text(129, 128, 2, 160) == [*range(97), 128]
    assert attended_text(200, 128, 2, 160) == [*range(104), *range(128, 200)]
    assert attended_text(100, 128, 2, 160) == list(range(100))


def test_shares_are_whole_tiles_and_a_text_is_no_longer_than_they_are():
    for length, share in ((5, 12), (65, 32)):
        with pytest.raises(GoldenError, match=f"{length} tokens of 2 shares of {share}, in chunks of 32"):
            attended_text(length, share, 2, 32)


@pytest.mark.parametrize(
    ("attrs", "message"),
    [
        ({"buffer": [1, 1, 32, 32]}, "a persistent buffer: seen"),
        ({"text_buffer": [1, 1, 32, 32]}, "a persistent buffer: seen"),
        ({"dtype": "bfloat16"}, "a persistent buffer: seen"),
        # Then ttnn does not look at the length.
        ({"compute": "hifi2"}, "sums in float32: seen True, expected False"),
    ],
)
def test_a_call_that_would_go_wrong_on_chips_is_an_error(attrs, message):
    right = ring_attrs([1, 1, 64, 32], [1, 1, 64, 32], 64, dtype="float32", program_config=[32, 32], scale=0.3)
    operands = [*([normal(0, 1, 1, 32, 32)] * 2 for _ in range(6)), [torch.tensor([1])] * 2]
    assert len(executed(RING, *operands, mesh=Mesh(1, 2), **right)) == 2
    with pytest.raises(GoldenError, match=message):
        executed(RING, *operands, mesh=Mesh(1, 2), **{**right, **attrs})
