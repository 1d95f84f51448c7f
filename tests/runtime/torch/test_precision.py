"""bfloat16 products in float32, whatever this CPU has."""

import torch
import torch.nn.functional as F

from mochi_aot.runtime.torch.precision import _in_float32, widened
from tests.runtime.torch.programs import normal


def test_bfloat16_is_computed_in_float32_and_rounded_once() -> None:
    x, w = normal(0, 3, 64, dtype=torch.bfloat16), normal(1, 5, 64, dtype=torch.bfloat16)
    y = _in_float32(F.linear)(x, w)
    assert torch.equal(y, F.linear(x.float(), w.float()).bfloat16())


def test_float32_passes_through() -> None:
    x, w = normal(0, 3, 64), normal(1, 5, 64)
    assert torch.equal(widened(F.linear)(x, w), F.linear(x, w))
    assert torch.equal(_in_float32(F.linear)(x, w), F.linear(x, w))
