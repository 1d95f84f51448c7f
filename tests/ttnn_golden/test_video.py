import pytest
import torch
from torch.nn import functional as F

from mochi_aot.tools.golden.types import GoldenError
from tests.ttnn_golden.cases import convolved, prepared
from tests.ttnn_golden.chips import MESH, executed, joined, normal, on_one, spread

PAD = "experimental.neighbor_pad_async"
CONV = {"kernel_size": [3, 3, 3], "program_config": [32, 1, 2, 4], "compute": "hifi2", "output_channels": 7}
# The result is bfloat16, and so right to a half of its last bit.
ROUNDED = {"rtol": 2**-8, "atol": 1e-4, "check_dtype": False}


@pytest.mark.parametrize("channels", [64, 12])
@pytest.mark.parametrize("block", [0, 32])
def test_conv3d(channels, block):
    x, kernel, bias = normal(0, 2, 4, 5, 6, channels), normal(1, 7, channels, 3, 3, 3), normal(2, 7)
    attrs = {**CONV, "stride": [1, 2, 2], "padding": [0, 1, 1], "padding_mode": "zeros", "c_in_block": block}
    operands = x, prepared(kernel, block), bias.reshape(1, -1)
    result = on_one("experimental.conv3d", *operands, kw=["bias_tensor"], **attrs)
    expected = F.conv3d(x.permute(0, 4, 1, 2, 3), kernel, bias, stride=(1, 2, 2), padding=(0, 1, 1))
    torch.testing.assert_close(result, expected.permute(0, 2, 3, 4, 1), **ROUNDED)


def test_conv3d_repeats_the_border():
    x, kernel = normal(0, 1, 4, 5, 6, 32), normal(1, 7, 32, 3, 3, 3)
    attrs = {**CONV, "stride": [1, 1, 1], "padding": [1, 1, 1], "padding_mode": "replicate", "c_in_block": 32}
    result = on_one("experimental.conv3d", x, prepared(kernel, 0), kw=[], **attrs)
    wide = F.pad(x.permute(0, 4, 1, 2, 3), (1, 1, 1, 1, 1, 1), mode="replicate")
    torch.testing.assert_close(result, F.conv3d(wide, kernel).permute(0, 2, 3, 4, 1), **ROUNDED)


def test_the_loop_over_a_kernel_is_a_convolution():
    """cases.convolved, which says what conv3d's row should make."""
    x, kernel, bias = normal(0, 1, 4, 5, 6, 8), normal(1, 7, 8, 3, 3, 3), normal(2, 7)
    made = convolved(x, kernel, bias, (1, 0), "constant", 2)
    expected = F.conv3d(x.permute(0, 4, 1, 2, 3), kernel, bias, stride=(1, 2, 2), padding=(0, 1, 0))
    torch.testing.assert_close(made, expected.permute(0, 2, 3, 4, 1), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("mode", "torch_mode"), [("zeros", "constant"), ("replicate", "replicate")])
def test_borders_come_from_the_neighbours(mode, torch_mode):
    whole = normal(0, 1, 3, 8, 8, 2)
    attrs = {"dim": [3, 2], "padding_left": [2, 1], "padding_right": [1, 1], "axis": [1, 0], "padding_mode": mode}
    (padded,) = executed(PAD, spread(whole, MESH, rows=2, columns=3), **attrs)
    # Channels beside batch, as torch pads the last three dimensions.
    wide = F.pad(whole.permute(0, 4, 1, 2, 3), (2, 1, 1, 1, 0, 0), mode=torch_mode).permute(0, 2, 3, 4, 1)
    for chip, piece in enumerate(padded.pieces):
        row, column = divmod(chip, MESH.columns)
        assert torch.equal(piece, wide[:, :, 4 * row : 4 * row + 6, 2 * column : 2 * column + 5])


def test_one_side_of_one_dimension():
    whole = normal(0, 1, 4, 3, 2, 2)
    attrs = {"dim": [1], "padding_left": [0], "padding_right": [1], "axis": [1], "padding_mode": "zeros"}
    (padded,) = executed(PAD, spread(whole, MESH, columns=1), **attrs)
    pieces = padded.pieces
    assert torch.equal(pieces[2][:, 1], whole[:, 3]) and pieces[3][:, 1].eq(0).all()
    assert torch.equal(joined([piece[:, :1] for piece in pieces], MESH, columns=1), whole)


def test_borders_wider_than_a_piece_are_an_error():
    attrs = {"dim": [1], "padding_left": [3], "padding_right": [0], "axis": [0], "padding_mode": "zeros"}
    with pytest.raises(GoldenError, match="borders of 3 and 0 of an extent of 2"):
        executed(PAD, [torch.zeros(1, 2, 2, 2, 2)] * MESH.size, **attrs)
