"""in_float8: golden texts, results as near as roundings to float8 allow, and what reads weights and costs after it."""

from pathlib import Path

import numpy as np
import pytest

from mochi_aot.compiler.ir.interpreter import run
from mochi_aot.compiler.ir.program import Concat, Program
from mochi_aot.compiler.ir.verify import verify
from mochi_aot.compiler.lower.torch_seconds import seconds
from mochi_aot.compiler.lower.weights import checkpoint_names
from mochi_aot.compiler.partition.cost import cost_of
from mochi_aot.compiler.partition.float8 import in_float8
from mochi_aot.compiler.partition.liveness import peak_bytes
from tests.compiler.golden import Golden, cases, read
from tests.compiler.numbers import inputs

FOLDER = Path(__file__).parent / "golden" / "float8"


@cases(FOLDER)
def test_golden(golden: Golden) -> None:
    verify(golden.source)
    after = in_float8(golden.source)
    verify(after)
    golden.check({"in_float8": after})


def matrices(program: Program) -> dict[str, np.ndarray]:
    """Arrays of a program's checkpoint, by name; rows of a matrix have a length of about one."""
    rng, found = np.random.default_rng(0), dict[str, np.ndarray]()
    for param in program.params:
        recipe, type = param.recipe, param.value.type
        parts = [part_type for _, part_type in recipe.parts] if isinstance(recipe, Concat) else [type]
        for name, part in zip(checkpoint_names(recipe), parts, strict=True):
            found[name] = (rng.standard_normal(part.shape) / np.sqrt(part.shape[-1])).astype(np.float32)
    return found


@cases(FOLDER)
def test_results_are_near(golden: Golden) -> None:
    """A term is off by up to 2^-3 of itself, 2^-3 / 3^0.5 in the mean, so that a sum of terms of random signs is off by
    0.07 of its own deviation, the largest of some hundred sums by four times that, and a second product after it by the
    root of two more. Poisoned padding shows a scale that padding counts in."""
    program = golden.source
    arrays, params = inputs(program), matrices(program)
    expected = run(program, arrays, params, poison=7.0)
    actual = run(in_float8(program), arrays, params, poison=7.0)
    changed = 0
    for name, array in expected.items():
        off = np.abs(actual[name] - array).max() / array.std()
        assert off < 4 * 0.07 * 2**0.5
        changed += bool(off > 0)
    assert changed == 2


@pytest.mark.parametrize("name", ["one_device", "cuts"])
def test_bytes_and_seconds(name: str) -> None:
    """A byte a number and four a row instead of two a number; half the seconds of what is in float8."""
    program = read(FOLDER / f"{name}.ir").source
    after = in_float8(program)
    before_cost, cost = cost_of(program), cost_of(after)
    replaced = [param for param in after.params if param.value.type.dtype == "float8"]
    numbers = sum(param.value.type.local_nbytes for param in replaced)
    rows = sum(param.value.type.local_shape[0] for param in replaced)
    assert cost.weight_bytes == before_cost.weight_bytes - numbers + 4 * rows
    assert peak_bytes(after) < peak_bytes(program)
    assert cost.flops == before_cost.flops and before_cost.float8_flops == 0
    made = [op for op in after.ops if op.opcode == "linear_float8"]
    products = [2 * np.prod(op.operands[0].type.local_shape) * op.result.type.local_shape[-1] for op in made]
    assert cost.float8_flops == sum(products)
    spared = seconds(before_cost) - seconds(cost)
    assert spared == pytest.approx(cost.float8_flops / (989.4e12), rel=1e-6)
