"""Rotary positions against diffusers."""

import pytest
import torch
from diffusers.models.transformers.transformer_mochi import MochiRoPE

from mochi_aot.compiler.reference.rope import rope_tables, token_positions

pytestmark = pytest.mark.filterwarnings("ignore:In CPU autocast")  # from diffusers' rope


@pytest.mark.parametrize("rows, columns", [(3, 5), (30, 53), (1, 1)])
def test_positions_equal_diffusers(rows, columns):
    expected = MochiRoPE()._get_positions(4, rows, columns, dtype=torch.float32)
    # diffusers averages rounded edges, of magnitude 192 * sqrt(aspect) at most; a float32 there has steps of 3e-5
    torch.testing.assert_close(token_positions(4, rows, columns), expected, rtol=0, atol=1e-4)


def test_positions_are_centred_and_cover_the_base_area():
    positions = token_positions(frames=2, rows=30, columns=53)
    assert positions[:, 1:].mean(0).abs().max() < 1e-4
    assert positions[-1, 0] == 1.0
    spacing = positions[1, 2] - positions[0, 2]
    assert spacing**2 * 30 * 53 == pytest.approx(192 * 192, rel=1e-5)


def test_tables_equal_diffusers():
    frequencies = torch.randn(3, 2, 6) * 0.1
    expected = MochiRoPE()(frequencies, 3, 4, 6, dtype=torch.float32)
    for actual, table in zip(rope_tables(frequencies, (3, 8, 12), patch=2), expected, strict=True):
        torch.testing.assert_close(actual, table, rtol=0, atol=1e-4)  # angles of up to some 50 radians
