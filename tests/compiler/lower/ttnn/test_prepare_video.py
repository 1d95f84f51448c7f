"""The forms of the video autoencoder's parameters, against their definitions element by element."""

import pytest
import torch

from mochi_aot.compiler.lower.ttnn.prepare_video import (
    conv3d,
    conv_blocks,
    nonzero_row,
    of_pixels,
    row_of_pixels,
    unfolded,
    unfolded_row,
)


def test_rows_of_a_convolution() -> None:
    """768 inputs come in blocks of 64."""
    weight = torch.randn(32, 768, 3, 3, 3, generator=torch.Generator().manual_seed(0))
    rows = conv3d(weight)
    block = conv_blocks(768, 32).inputs
    assert rows.shape == (27 * 768, 32) and block == 64
    for t, h, w, c in ((0, 0, 0, 0), (2, 1, 0, 63), (1, 2, 2, 64), (0, 1, 2, 767)):
        row = c // block * 27 * block + ((t * 3 + h) * 3 + w) * block + c % block
        assert torch.equal(rows[row], weight[:, c, t, h, w])


@pytest.mark.parametrize("channels", [32, 64, 96, 128, 256, 512, 768, 800])
def test_blocks_divide_the_channels(channels: int) -> None:
    blocks = conv_blocks(channels, channels)
    assert channels % blocks.inputs == 0 and channels % blocks.outputs == 0
    assert blocks.inputs % 32 == 0 and blocks.outputs % 32 == 0
    assert blocks.frames * blocks.height * blocks.width == 32  # more pixels are said to make chips hang


def test_unfolded_outputs_lie_pixel_by_pixel() -> None:
    weight, bias = torch.arange(24.0).reshape(12, 2), torch.arange(12.0)  # 3 channels of 4 pixels
    pixels_first = [0, 4, 8, 1, 5, 9, 2, 6, 10, 3, 7, 11]
    assert torch.equal(unfolded(weight, 4), weight[pixels_first].T)
    assert unfolded_row(bias, 4).tolist() == [pixels_first]


def test_no_scale_is_zero() -> None:
    scale = torch.tensor([0.0, 1e-9, -1e-9, -0.5, 2.0], dtype=torch.bfloat16)
    small = pytest.approx(1e-6)
    assert nonzero_row(scale).tolist() == [[small, small, small, -0.5, 2.0]]


def test_pixels_of_a_group_are_products_of_their_own() -> None:
    """Two parts of three colours, four pixels at once, against a product for each pixel."""
    generator = torch.Generator().manual_seed(0)
    weight, bias = torch.randn(5, 6, generator=generator), torch.randn(5, generator=generator)
    pixels = torch.randn(4, 2, 3, generator=generator)  # pixel, part, colour
    row = pixels.transpose(0, 1).reshape(1, -1)  # a part's pixels lie next to each other
    made = row @ of_pixels(weight, 4, 3) + row_of_pixels(bias, 4)
    torch.testing.assert_close(made.reshape(4, 5), pixels.reshape(4, 6) @ weight.T + bias)
