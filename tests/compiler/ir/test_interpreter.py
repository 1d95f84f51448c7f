"""Whole programs: parameters by recipe, rounding, padding and errors. Ops are tested with their definitions."""

import numpy as np
import pytest

from mochi_aot.compiler.ir.errors import IRError
from mochi_aot.compiler.ir.interpreter import run
from mochi_aot.compiler.ir.numpy_values import round_bfloat16
from mochi_aot.compiler.ir.parser import parse
from mochi_aot.compiler.ir.program import Constant, Param
from mochi_aot.compiler.ir.verify import verify
from tests.compiler.ir.one_op import near, normal

MLP = """\
program @mlp {
  input %x : f32[1,10,6] rate=latent
  param %up : f32[16,6] = checkpoint("up.weight")
  param %down : f32[6,16] = checkpoint("down.weight")
  %0 = linear(%x, %up) : f32[1,10,16]
  %1 = silu(%0) : f32[1,10,16]
  %2 = linear(%1, %down) : f32[1,10,6]
  return "y" %2
}
"""
# Sequence on axis 0 (10 rows do not divide by 4), hidden units on axis 1.
PARTITIONED = """\
program @mlp mesh=4x2 {
  input %x : f32[1,10,6]{R,R} rate=latent
  param %up : f32[16,6]{R,S(0:8)} = checkpoint("up.weight")
  param %down : f32[6,16]{R,S(1:8)} = checkpoint("down.weight")
  %s = shard(%x) {dim=1, axis=0, chunk=3} : f32[1,10,6]{S(1:3),R}
  %0 = linear(%s, %up) : f32[1,10,16]{S(1:3),S(2:8)}
  %1 = silu(%0) : f32[1,10,16]{S(1:3),S(2:8)}
  %2 = linear(%1, %down) : f32[1,10,6]{S(1:3),P}
  %3 = all_reduce(%2) {axis=1} : f32[1,10,6]{S(1:3),R}
  return "y" %3
}
"""
X = {"x": normal(1, 1, 10, 6)}
WEIGHTS = {"up.weight": normal(2, 16, 6), "down.weight": normal(3, 6, 16)}


@pytest.mark.parametrize("poison", [None, 1e6])
def test_a_partitioned_program_equals_the_whole(poison: float | None) -> None:
    program = parse(PARTITIONED)
    verify(program)
    # Sums of 16 products in another order.
    near(run(program, X, WEIGHTS, poison)["y"], run(parse(MLP), X, WEIGHTS)["y"], 1e-6)


def test_poison_shows_reads_of_padding() -> None:
    text = """\
program @p mesh=1x2 {
  input %x : f32[3]{R,S(0:2)} rate=latent
  %0 = sum(%x) {dims=[0], keepdim=true} : f32[1]{R,P}
  %1 = all_reduce(%0) {axis=1} : f32[1]{R,R}
  return "y" %1
}
"""
    x = {"x": np.ones(3, np.float32)}
    assert run(parse(text), x, {})["y"].tolist() == [3]
    assert run(parse(text), x, {}, poison=100.0)["y"].tolist() == [103]


def test_params_by_value_name_or_function() -> None:
    expected = run(parse(MLP), X, WEIGHTS)["y"]
    by_name = {"up": WEIGHTS["up.weight"], "down": WEIGHTS["down.weight"]}
    np.testing.assert_array_equal(run(parse(MLP), X, by_name)["y"], expected)

    def source(param: Param) -> np.ndarray:
        return by_name[param.value.name]

    np.testing.assert_array_equal(run(parse(MLP), X, source)["y"], expected)


def test_recipes_of_every_kind() -> None:
    constant = np.full(2, 5, np.float32)
    text = f"""\
program @p {{
  input %x : f32[2] rate=latent
  param %a : f32[4] = concat(0, [checkpoint("k") : f32[1], computed("other", "o") : f32[1], \
constant("{Constant(constant).key}") : f32[2]])
  return "a" %a
}}
"""
    program = parse(text, {Constant(constant).key: constant})
    verify(program)
    x = np.zeros(2, np.float32)
    for params in ({"k": np.ones(1), "o": np.full(1, 2.0)}, {"a.0": np.ones(1), "a.1": np.full(1, 2.0)}):
        assert run(program, {"x": x}, params)["a"].tolist() == [1, 2, 5, 5]


def test_parts_are_joined_on_each_device() -> None:
    text = """\
program @p mesh=1x2 {
  input %x : f32[1]{R,R} rate=latent
  param %w : f32[4]{R,S(0:2)} = concat(0, [checkpoint("q") : f32[2]{R,S(0:1)}, checkpoint("k") : f32[2]{R,S(0:1)}])
  return "w" %w
}
"""
    program = parse(text)
    verify(program)
    weights = {"q": np.array([1.0, 2.0]), "k": np.array([3.0, 4.0])}
    assert run(program, {"x": np.zeros(1)}, weights)["w"].tolist() == [1, 3, 2, 4]


def test_bfloat16_is_rounded_after_each_op() -> None:
    text = """\
program @p {
  input %x : bf16[64] rate=latent
  %0 = mul(%x, %x) : bf16[64]
  %1 = mul(%0, %x) : bf16[64]
  %2 = cast(%1) {dtype="float32"} : f32[64]
  return "y" %2
}
"""
    x = round_bfloat16(normal(1, 64))
    y = run(parse(text), {"x": x}, {})["y"]
    np.testing.assert_array_equal(y, round_bfloat16(round_bfloat16(x * x) * x))


def test_replicas_of_an_output_that_differ_are_an_error() -> None:
    text = """\
program @p mesh=1x2 {
  input %x : f32[2]{R,S(0:1)} rate=latent
  %0 = exp(%x) : f32[1]{R,R}
  return "y" %0
}
"""
    program = parse(text)
    verify(program)  # the shapes on a device are consistent
    with pytest.raises(IRError, match="%0: devices hold copies"):
        run(program, {"x": np.array([0.0, 1.0])}, {})


def test_integers_stay_integers() -> None:
    text = """\
program @p {
  input %table : f32[3,2] rate=step
  input %step : i32[1] rate=step
  %0 = select(%table, %step) {dim=0} : f32[2]
  %1 = add_scalar(%step) {value=1} : i32[1]
  return "row" %0
  return "next" %1
}
"""
    results = run(parse(text), {"table": np.eye(3, 2, dtype=np.float32), "step": np.array([1])}, {})
    assert results["row"].tolist() == [0, 1]
    assert results["next"].dtype == np.int32


@pytest.mark.parametrize(
    ("inputs", "params", "message"),
    [
        ({}, WEIGHTS, r"@mlp has inputs \['x'\], given \[\]"),
        ({**X, "z": X["x"]}, WEIGHTS, r"@mlp has inputs \['x'\], given \['x', 'z'\]"),
        ({"x": X["x"][0]}, WEIGHTS, r"%x: array of shape \(10, 6\) for f32\[1,10,6\]"),
        (X, {"up": WEIGHTS["up.weight"]}, "no array for parameter %down, looked for 'down' and 'down.weight'"),
        (X, {**WEIGHTS, "up": np.zeros((6, 16))}, r"%up: array of shape \(6, 16\) for f32\[16,6\]"),
    ],
)
def test_arguments_that_do_not_fit(inputs: dict[str, np.ndarray], params: dict[str, np.ndarray], message: str) -> None:
    with pytest.raises(IRError, match=message):
        run(parse(MLP), inputs, params)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("nothing(%x) : f32[1,10,16]", "KeyError: 'nothing'"),
        ("exp(%x) : f32[1,10,16]", r"ValueError: made float32\[1, 10, 6\]"),
        ("linear(%x, %x) : f32[1,10,16]", "ValueError"),
        ("linear(%x) : f32[1,10,16]", "TypeError"),
        ("slice(%x) : f32[1,10,16]", "KeyError: 'dim'"),
    ],
)
def test_a_failing_op_is_printed_with_its_location(line: str, message: str) -> None:
    program = parse(MLP.replace("linear(%x, %up) : f32[1,10,16]", f'{line}  loc "dit.py:7"'))
    with pytest.raises(IRError, match=message) as raised:
        run(program, X, WEIGHTS)
    assert str(raised.value).endswith(f'\n  %0 = {line}  loc "dit.py:7"')


def test_an_index_out_of_range_is_an_error() -> None:
    text = """\
program @p {
  input %table : f32[3,2] rate=step
  input %ids : i32[1] rate=step
  %0 = embedding(%table, %ids) : f32[1,2]
  return "y" %0
}
"""
    with pytest.raises(IRError, match="IndexError"):
        run(parse(text), {"table": np.zeros((3, 2)), "ids": np.array([3])}, {})
