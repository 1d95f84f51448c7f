"""A bias that follows a sum over chips is added in shares inside the products."""

import numpy as np
import pytest
import torch

from mochi_aot.compiler.ir.builder import Builder
from mochi_aot.compiler.ir.program import Checkpoint, Program
from mochi_aot.compiler.ir.types import TensorType
from mochi_aot.compiler.lower.ttnn.program import Lowered
from mochi_aot.compiler.partition.plan import Cut, Plan
from tests.compiler.lower.ttnn.lowered import golden_outputs, lowered

TOKENS, INPUTS, OUTPUTS = 32, 192, 64
BY_INPUTS = Plan("tp1", params=(("w", Cut(1, 1)),))


def product(uses: int = 1) -> Program:
    """x @ w + b, read once or twice."""
    builder = Builder("product")
    x = builder.input("x", TensorType((1, TOKENS, INPUTS), "bfloat16"), "latent")
    w = builder.param("w", TensorType((OUTPUTS, INPUTS), "bfloat16"), Checkpoint("w"))
    b = builder.param("b", TensorType((OUTPUTS,), "bfloat16"), Checkpoint("b"))
    y = builder.emit("linear", [x, w, b])
    builder.output("y", y)
    if uses == 2:
        builder.output("z", builder.emit("silu", [y]))
    return builder.program


def ops(low: Lowered) -> list[str]:
    return [i.op for i in low.program.instructions if i.op != "mesh_partition"]


@pytest.mark.parametrize(
    ("chips", "expected", "operands"),
    [
        (2, ["experimental.minimal_matmul", "all_reduce"], 3),
        # a third of a bias is not exact
        (3, ["experimental.minimal_matmul", "all_reduce", "add"], 2),
    ],
)
def test_a_bias_in_shares(chips: int, expected: list[str], operands: int) -> None:
    """Partial sums and their sum are rounded by 2^-9 of at most 80, once a chip and once more."""
    low = lowered(product(), (1, chips), BY_INPUTS)
    assert ops(low) == expected
    (made,) = (i for i in low.program.instructions if i.op == expected[0])
    assert len(made.operands) == operands
    generator = torch.Generator().manual_seed(0)
    x, w = (torch.randn(shape, generator=generator).bfloat16() for shape in ((1, TOKENS, INPUTS), (OUTPUTS, INPUTS)))
    b = torch.linspace(-20, 20, OUTPUTS).bfloat16()
    (y,) = golden_outputs(low, (1, chips), {"x": x.float().numpy()}, {"w": w, "b": b}).values()
    expected_y = torch.nn.functional.linear(x.double(), w.double(), b.double())
    assert float(expected_y.abs().max()) < 80
    torch.testing.assert_close(y.double(), expected_y, rtol=0, atol=2**-9 * 80 * (chips + 1))


def test_each_chip_has_its_share() -> None:
    low = lowered(product(), (1, 4), BY_INPUTS)
    (weight,) = (w for w in low.weights if "share" in w.name)
    assert str(weight.preparation) == "share:4" and weight.local_shape == [1, OUTPUTS]


def test_on_one_chip_it_is_an_ordinary_bias() -> None:
    low = lowered(product(), (1, 1), BY_INPUTS)
    assert ops(low) == ["experimental.minimal_matmul"]
    assert [str(w.preparation) for w in low.weights] == ["transposed", "row"]


def test_it_may_be_read_more_than_once() -> None:
    """What is absorbed is the sum and the bias, not what reads them."""
    assert ops(lowered(product(uses=2), (1, 2), BY_INPUTS)) == ["experimental.minimal_matmul", "all_reduce", "silu"]


def test_the_sum_alone_has_no_bias() -> None:
    """A sum that something else reads as well is not biased in the product."""
    builder = Builder("product")
    x = builder.input("x", TensorType((1, TOKENS, INPUTS), "bfloat16"), "latent")
    w = builder.param("w", TensorType((OUTPUTS, INPUTS), "bfloat16"), Checkpoint("w"))
    b = builder.param("b", TensorType((OUTPUTS,), "bfloat16"), Checkpoint("b"))
    y = builder.emit("linear", [x, w])
    builder.output("y", builder.emit("add", [y, b]))
    builder.output("z", builder.emit("silu", [y]))
    low = lowered(builder.program, (1, 2), BY_INPUTS)
    assert sorted(ops(low)) == ["add", "all_reduce", "experimental.minimal_matmul", "silu"]
    x_ = np.ones((1, TOKENS, INPUTS), np.float32)
    made = golden_outputs(
        low, (1, 2), {"x": x_}, {"w": torch.full((OUTPUTS, INPUTS), 2.0**-7), "b": torch.ones(OUTPUTS)}
    )
    assert torch.equal(made["y"].float(), torch.full((1, TOKENS, OUTPUTS), 2.5))
