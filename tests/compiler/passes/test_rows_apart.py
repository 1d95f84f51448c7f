"""rows_apart: the same results row by row, and rows joined for what mixes them."""

from collections.abc import Callable

import numpy as np
import pytest

from mochi_aot.compiler.ir.builder import Builder
from mochi_aot.compiler.ir.interpreter import run
from mochi_aot.compiler.ir.program import Program, Value
from mochi_aot.compiler.ir.types import TensorType
from mochi_aot.compiler.ir.verify import verify
from mochi_aot.compiler.passes.rows_apart import rows_apart
from mochi_aot.compiler.reference.geometry import Geometry
from tests.compiler import tiny

GEOMETRY = Geometry(16, 16, 13)
X = np.arange(12, dtype=np.float32).reshape(1, 3, 4)
Build = Callable[[Builder, Value, Value], Value]
BATCH = np.arange(24, dtype=np.float32).reshape(2, 3, 4) - 7


def test_a_guided_step_is_the_same() -> None:
    """To rounding: products of one row and of two may add up in another order."""
    program = tiny.programs(GEOMETRY)["denoise"]
    apart = rows_apart(program)
    verify(apart)
    arrays = tiny.inputs(program)
    got, expected = (run(p, arrays, tiny.parameter)["latents"] for p in (apart, program))
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-6 * float(np.abs(expected).max()))


def test_after_the_expand_a_step_has_no_batch() -> None:
    """Each visual op is there once a row; slices are of inputs that are batches, and of rows of tables."""
    program = tiny.programs(GEOMETRY)["denoise"]
    (expand,) = (op for op in program.ops if op.opcode == "expand")
    apart = rows_apart(program)
    assert not any(op.opcode == "expand" for op in apart.ops)
    tokens = expand.result.type.shape[1]
    visual = [result.type.shape for op in apart.ops for result in op.results if result.type.shape[1:2] == (tokens,)]
    assert len(visual) > 20 and all(shape[0] == 1 for shape in visual)
    attentions = [sum(op.opcode == "joint_attention" for op in p.ops) for p in (program, apart)]
    assert attentions[1] == 2 * attentions[0] > 0
    assert not any(op.opcode == "concat" and op.loc == "rows_apart" for op in apart.ops)


def made(build: Build) -> tuple[Program, Program]:
    """A program of x, expanded to two rows, and a batch of two; and the same with rows apart."""
    builder = Builder("p")
    x = builder.input("x", TensorType((1, 3, 4), "float32"), "latent")
    batch = builder.input("batch", TensorType((2, 3, 4), "float32"), "latent")
    rows = builder.emit("expand", [x], {"shape": [2, 3, 4]})
    builder.output("y", build(builder, rows, batch))
    apart = rows_apart(builder.program)
    verify(apart)
    return builder.program, apart


def opcodes(program: Program) -> list[str]:
    return [op.opcode for op in program.ops]


CASES: dict[str, tuple[Build, list[str]]] = {
    "a batch is cut into rows": (
        lambda b, rows, batch: b.emit("add", [rows, batch]),
        ["slice", "slice", "add", "add", "concat"],
    ),
    "one row is taken as it is": (
        lambda b, rows, batch: b.emit("slice", [b.emit("silu", [rows])], {"dim": 0, "start": 1, "stop": 2}),
        ["silu", "silu"],
    ),
    "two rows are joined": (
        lambda b, rows, batch: b.emit("slice", [rows], {"dim": 0, "start": 0, "stop": 2}),
        ["concat", "slice"],
    ),
    "a reshape that keeps rows": (
        lambda b, rows, batch: b.emit("reshape", [rows], {"shape": [2, 4, 3]}),
        ["reshape", "reshape", "concat"],
    ),
    "a reshape that mixes them": (
        lambda b, rows, batch: b.emit("reshape", [rows], {"shape": [6, 4]}),
        ["concat", "reshape"],
    ),
    "a permute of the other dimensions": (
        lambda b, rows, batch: b.emit("permute", [rows], {"dims": [0, 2, 1]}),
        ["permute", "permute", "concat"],
    ),
    "a permute that moves rows": (
        lambda b, rows, batch: b.emit("permute", [rows], {"dims": [1, 0, 2]}),
        ["concat", "permute"],
    ),
    "a sum within rows": (
        lambda b, rows, batch: b.emit("sum", [rows], {"dims": [2], "keepdim": True}),
        ["sum", "sum", "concat"],
    ),
    "a sum over rows": (
        lambda b, rows, batch: b.emit("sum", [rows], {"dims": [0], "keepdim": True}),
        ["concat", "sum"],
    ),
    "an op that is not known to keep rows": (
        lambda b, rows, batch: b.emit("concat", [rows, batch], {"dim": 1}),
        ["concat", "concat"],
    ),
    "what has no rows": (lambda b, rows, batch: b.emit("silu", [batch]), ["silu"]),
}


@pytest.mark.parametrize("name", CASES)
def test_ops_one_by_one(name: str) -> None:
    build, expected = CASES[name]
    program, apart = made(build)
    assert opcodes(apart) == expected
    arrays = {"x": X, "batch": BATCH}
    assert np.array_equal(run(apart, arrays, tiny.parameter)["y"], run(program, arrays, tiny.parameter)["y"])
