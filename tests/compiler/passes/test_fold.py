"""fold_computed: what another program computed becomes a constant; other recipes stay."""

import numpy as np
import pytest

from mochi_aot.compiler.ir.interpreter import run
from mochi_aot.compiler.ir.parser import parse
from mochi_aot.compiler.ir.program import Checkpoint, Constant
from mochi_aot.compiler.ir.text import to_text
from mochi_aot.compiler.ir.verify import verify
from mochi_aot.compiler.passes.fold import fold_computed

TEXT = """\
program @p {
  input %x : f32[2] rate=latent
  param %table : f32[2] = RECIPE
  param %w : f32[2] = checkpoint("w")
  %0 = mul(%x, %table) : f32[2]
  %1 = add(%0, %w) : f32[2]
  return "y" %1
}
"""
BEFORE = TEXT.replace("RECIPE", 'computed("p.geometry", "p.geometry.3")')
ARRAY = np.array([2.0, 3.0], np.float32)


def test_golden() -> None:
    after = fold_computed(parse(BEFORE), {("p.geometry", "p.geometry.3"): ARRAY})
    verify(after)
    assert to_text(after) == TEXT.replace("RECIPE", f'constant("{Constant(ARRAY).key}")')
    recipes = [param.recipe for param in after.params]
    assert isinstance(recipes[0], Constant)
    assert recipes[0].array is ARRAY
    assert recipes[1] == Checkpoint("w")


def test_the_constant_brings_its_own_numbers() -> None:
    after = fold_computed(parse(BEFORE), {("p.geometry", "p.geometry.3"): ARRAY})
    result = run(after, {"x": np.array([10, 20], np.float32)}, {"w": np.array([1, 1], np.float32)})
    assert result["y"].tolist() == [21, 61]


def test_the_source_keeps_its_recipe() -> None:
    source = parse(BEFORE)
    fold_computed(source, {("p.geometry", "p.geometry.3"): ARRAY})
    assert to_text(source) == BEFORE


def test_an_output_that_nobody_computed_is_missed() -> None:
    with pytest.raises(KeyError, match=r"p.geometry.3"):
        fold_computed(parse(BEFORE), {})
