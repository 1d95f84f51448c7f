import os
import subprocess
import sys

import pytest
import torch

from mochi_aot.runtime.ttnn.mock import prepare_mock
from mochi_aot.tools.golden.formats import NAMES, STORAGE, block_float_rounded, stored, widened
from tests.ttnn_golden.chips import normal

# Host conversion to bfloat8_b asks ttnn for its cluster, which must be known before ttnn is imported.
CONVERT = """
import sys, torch, ttnn
tensors = torch.load(sys.argv[1])
converted = [ttnn.from_torch(x, dtype=ttnn.bfloat8_b, layout=ttnn.TILE_LAYOUT) for x in tensors]
torch.save([ttnn.to_torch(x) for x in converted], sys.argv[2])
"""


def test_bfloat8_b_is_what_ttnn_makes_on_the_host(tmp_path):
    tensors = [
        normal(0, 96, 80),
        normal(1, 5, 33),  # not whole tiles, not even whole blocks
        normal(2, 3, 40, 50),
        normal(3, 64, 64) * torch.exp(8 * normal(4, 64, 64)),  # many exponents in a block
        torch.randint(-256, 256, (64, 64), generator=torch.Generator().manual_seed(5)) / 128,  # halves
        torch.cat([torch.full((32, 1), 1.9999), torch.full((32, 31), 0.3)], dim=1),  # would round to the next exponent
        torch.zeros(32, 32),
    ]
    torch.save(tensors, tmp_path / "in")
    environment = prepare_mock((1, 1), tmp_path / "mock")
    subprocess.run(
        [sys.executable, "-c", CONVERT, tmp_path / "in", tmp_path / "out"],
        env={**os.environ, **environment.variables},
        check=True,
        capture_output=True,
        close_fds=False,  # by one of which ttnn's root is found
    )
    for tensor, theirs in zip(tensors, torch.load(tmp_path / "out"), strict=True):
        assert torch.equal(block_float_rounded(tensor), theirs)
        assert torch.equal(stored(tensor, "bfloat8_b").float(), theirs)


def test_a_block_keeps_seven_bits_below_its_largest_number():
    row = torch.zeros(1, 32)
    row[0, :3] = torch.tensor([1.0, 1.0 / 64, 1.0 / 256])
    row[0, 16] = 1.0 / 256
    rounded = block_float_rounded(row)[0]
    assert rounded[:3].tolist() == [1.0, 1.0 / 64, 0.0]
    assert rounded[16] == 1.0 / 256  # of another block


def test_rounding_again_changes_nothing():
    once = stored(normal(0, 32, 64), "bfloat8_b")
    assert torch.equal(stored(once, "bfloat8_b"), once)


def test_bfloat16_rounds_to_nearest_and_integers_are_cut_off():
    assert stored(torch.tensor([1.0 + 2**-9, 1.0 + 2**-7]), "bfloat16").tolist() == [1.0, 1.0 + 2**-7]
    assert stored(torch.tensor([2.7]), "uint32").tolist() == [2]
    assert stored(torch.tensor([True, False]), "bfloat16").tolist() == [1.0, 0.0]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "uint32", "int32", "uint8"])
def test_the_dtype_of_what_is_stored(dtype):
    assert NAMES[stored(torch.ones(2), dtype).dtype] == dtype


def test_only_floats_are_widened():
    assert widened(torch.ones(1, dtype=torch.bfloat16)).dtype == torch.float32
    assert widened(torch.ones(1, dtype=STORAGE["uint32"])).dtype == torch.int64
