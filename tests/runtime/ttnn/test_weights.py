"""Weights as an inference host reads them from disk, chip by chip, against the recipe applied in torch."""

from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from mochi_aot.tools.golden.formats import BLOCK, block_float_rounded

pytestmark = [pytest.mark.mesh, pytest.mark.slow]
MESH = (2, 4)
# In bfloat8_b each 16 numbers of a row share the exponent e of the largest: 2^(e-1) <= |largest| < 2^e. They become
# whole multiples of 2^(e-7) below 2^e, so rounding errs by half of that unit; but what lies between the last multiple,
# 127 units, and 2^e can only go down, and errs by a whole unit at most.
BITS, MOST = 7, 127


def test_bfloat16_is_exact(tmp_path: Path) -> None:
    assert _differing(tmp_path, "bfloat16") == []


def test_bfloat8_b_is_within_its_rounding(tmp_path: Path) -> None:
    assert _differing(tmp_path, "bfloat8_b") == []


def _differing(folder: Path, weights_dtype: str) -> list[str]:
    """Names of weights in a bundle some piece of which is not what it should be, of all programs but the encoder."""
    import ttnn

    from mochi_aot.artifacts.reader import Bundle
    from mochi_aot.compiler import compile as compiling
    from mochi_aot.compiler.checkpoint import open_checkpoint
    from mochi_aot.compiler.checkpoint.synthetic import write_checkpoint
    from mochi_aot.compiler.lower.ttnn.target import TtnnTarget
    from mochi_aot.compiler.partition.plans import TTNN_FAMILIES
    from tests.ttnn_golden.lowered_model import CONFIG, VIDEO, LoweredModel

    write_checkpoint(folder / "checkpoint", CONFIG, "diffusers")
    checkpoint = open_checkpoint(folder / "checkpoint")
    roles = [role for roles in TTNN_FAMILIES for role in roles if role != "encode"]  # see test_prepare_video.py
    made = LoweredModel.make(checkpoint, MESH, weights_dtype, roles, VIDEO)
    plans = tuple({made.programs[role].program.plan for role in roles})
    job = compiling.Job(MESH, (VIDEO,), plans, "bfloat16", "ttnn", weights_dtype)
    with pytest.MonkeyPatch.context() as patch:  # this process has another mesh open, so that nothing can run dry here
        patch.setattr(compiling, "opened_target", lambda job: nullcontext(TtnnTarget(job.weights_dtype)))
        compiling.compile_bundle(checkpoint, job, folder / "bundle")
    bundle = Bundle.open(folder / "bundle")
    model = made.in_float32()
    recipes = {name: held.pieces for weights in model.weights.values() for name, held in weights.items()}
    assert set(bundle.weights) == set(recipes)
    assert weights_dtype in {weight.dtype for weight in bundle.weights.values()}
    return [
        name
        for name, weight in bundle.weights.items()
        if not _agree(ttnn.load_tensor(bundle.tensor_file(name)), recipes[name], weight.dtype)
    ]


def _agree(read: Any, recipes: list[Any], dtype: str) -> bool:
    """Whether the pieces of a tensor are what `recipes` has for each chip."""
    import ttnn

    assert read.dtype.name.lower() == dtype
    pieces = [ttnn.to_torch(piece).float() for piece in ttnn.get_device_tensors(read)]
    return len(pieces) == len(recipes) == MESH[0] * MESH[1] and all(map(AGREE[dtype], pieces, recipes))


def _rounded(piece: Any, recipe: Any) -> bool:
    """To bfloat8_b. Zeros fill up the last block of a row, and change no largest number."""
    import torch

    if piece.shape != recipe.shape:
        return False
    padding = (0, -recipe.shape[-1] % BLOCK)
    was, is_ = (torch.nn.functional.pad(x, padding).unflatten(-1, (-1, BLOCK)) for x in (recipe, piece))
    unit = torch.exp2(torch.frexp(was.abs().amax(-1, keepdim=True)).exponent - float(BITS))
    bound = torch.where(was.abs() > MOST * unit, unit, unit / 2)
    return bool(((was - is_).abs() <= bound).all())


AGREE: dict[str, Callable[[Any, Any], bool]] = {
    "bfloat8_b": _rounded,
    "bfloat16": lambda piece, recipe: piece.equal(recipe.bfloat16().float()),
    "float32": lambda piece, recipe: piece.equal(recipe),
}


def test_a_piece_that_is_off_is_seen() -> None:
    import torch

    recipe = torch.randn(64, 96, generator=torch.Generator().manual_seed(0))
    recipe[0, :BLOCK] = recipe[0, :BLOCK].clamp(-1.9, 1.9)
    recipe[0, 1] = 1.999
    piece = block_float_rounded(recipe)
    assert _rounded(piece, recipe) and piece[0, 1] == 127 / 64
    largest = recipe[5, 16:32].abs().max()
    off = piece.clone()
    off[5, 20] += torch.exp2(torch.frexp(largest).exponent - 7.0)
    assert not _rounded(off, recipe)
    assert not _rounded(piece.roll(1, dims=0), recipe) and not _rounded(piece[:32], recipe)
    assert not AGREE["bfloat16"](recipe, recipe)
