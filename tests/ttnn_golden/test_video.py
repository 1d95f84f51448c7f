import pytest
import torch
from torch.nn import functional as F

from tests.ttnn_golden.chips import MESH, golden, joined, normal, on_one, spread
from tests.ttnn_golden.types import GoldenError

PAD = "experimental.neighbor_pad_async"


def prepared(kernel: torch.Tensor, block: int) -> torch.Tensor:
    """A kernel [O, C, kD, kH, kW] as rows: for each block of channels, for each place of the kernel, its channels.

    This is what ttnn documents of prepare_conv3d_weights, channels padded to whole tiles; it runs on chips alone.
    """
    kernel = F.pad(kernel, (0, 0, 0, 0, 0, 0, 0, -kernel.shape[1] % 32))
    blocks = kernel.split(block or kernel.shape[1], dim=1)
    rows = [part[:, :, d, h, w] for part in blocks for d in range(3) for h in range(3) for w in range(3)]
    return torch.cat(rows, dim=1).T


@pytest.mark.parametrize("channels", [64, 12])
@pytest.mark.parametrize("block", [0, 32])
def test_conv3d(channels, block):
    x, kernel, bias = normal(0, 2, 4, 5, 6, channels), normal(1, 7, channels, 3, 3, 3), normal(2, 7)
    result = on_one(
        "experimental.conv3d",
        x,
        prepared(kernel, block),
        bias.reshape(1, -1),
        kw=["bias_tensor"],
        output_channels=7,
        kernel_size=[3, 3, 3],
        stride=[1, 2, 2],
        padding=[0, 1, 1],
        padding_mode="zeros",
        c_in_block=block,
    )
    expected = F.conv3d(x.permute(0, 4, 1, 2, 3), kernel, bias, stride=(1, 2, 2), padding=(0, 1, 1))
    torch.testing.assert_close(result, expected.permute(0, 2, 3, 4, 1), rtol=1e-4, atol=1e-4)


def test_conv3d_repeats_the_border():
    x, kernel = normal(0, 1, 4, 5, 6, 32), normal(1, 7, 32, 3, 3, 3)
    attrs = {"output_channels": 7, "kernel_size": [3, 3, 3], "padding": [1, 1, 1], "padding_mode": "replicate"}
    result = on_one("experimental.conv3d", x, prepared(kernel, 0), **attrs)
    wide = F.pad(x.permute(0, 4, 1, 2, 3), (1, 1, 1, 1, 1, 1), mode="replicate")
    torch.testing.assert_close(result, F.conv3d(wide, kernel).permute(0, 2, 3, 4, 1), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("mode", "torch_mode"), [("zeros", "constant"), ("replicate", "replicate")])
def test_borders_come_from_the_neighbours(mode, torch_mode):
    whole = normal(0, 1, 3, 8, 8, 2)
    attrs = {"dim": [3, 2], "padding_left": [2, 1], "padding_right": [1, 1], "axis": [1, 0], "padding_mode": mode}
    (padded,) = golden(PAD, spread(whole, MESH, rows=2, columns=3), **attrs)
    # Channels beside batch, as torch pads the last three dimensions.
    wide = F.pad(whole.permute(0, 4, 1, 2, 3), (2, 1, 1, 1, 0, 0), mode=torch_mode).permute(0, 2, 3, 4, 1)
    for chip, piece in enumerate(padded):
        row, column = divmod(chip, MESH.columns)
        assert torch.equal(piece, wide[:, :, 4 * row : 4 * row + 6, 2 * column : 2 * column + 5])


def test_one_side_of_one_dimension():
    whole = normal(0, 1, 4, 3, 2, 2)
    attrs = {"dim": [1], "padding_left": [0], "padding_right": [1], "axis": [1], "padding_mode": "zeros"}
    (padded,) = golden(PAD, spread(whole, MESH, columns=1), **attrs)
    assert torch.equal(padded[2][:, 1], whole[:, 3]) and padded[3][:, 1].eq(0).all()
    assert torch.equal(joined([piece[:, :1] for piece in padded], MESH, columns=1), whole)


def test_borders_wider_than_a_piece_are_an_error():
    attrs = {"dim": [1], "padding_left": [3], "padding_right": [0], "axis": [0], "padding_mode": "zeros"}
    with pytest.raises(GoldenError, match="borders of 3 and 0 of an extent of 2"):
        golden(PAD, [torch.zeros(1, 2, 2, 2, 2)] * MESH.size, **attrs)
