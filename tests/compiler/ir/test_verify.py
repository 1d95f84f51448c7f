"""The verifier's errors, on programs small enough to read: each prints the line at fault."""

import numpy as np
import pytest

from mochi_aot.compiler.ir.errors import IRError
from mochi_aot.compiler.ir.parser import parse
from mochi_aot.compiler.ir.program import Attr, Checkpoint, Concat, Constant, Input, Op, Output, Param, Program, Value
from mochi_aot.compiler.ir.types import TensorType
from mochi_aot.compiler.ir.verify import verify
from mochi_aot.compiler.ir.verify_types import check_type

GOOD = """\
program @p {
  input %x : f32[2,3] rate=latent
  param %w : f32[5,3] = checkpoint("w")
  %0 = linear(%x, %w) : f32[2,5]  loc "dit.py:7"
  return "y" %0
}
"""
MESH = """\
program @p mesh=2x4 {
  input %x : f32[2,3]{R,R} rate=latent
  param %w : f32[5,3]{R,S(0:2)} = checkpoint("w")
  %0 = linear(%x, %w) : f32[2,5]{R,S(1:2)}  loc "dit.py:7"
  return "y" %0
}
"""


@pytest.mark.parametrize("text", [GOOD, MESH])
def test_good_programs_pass(text: str) -> None:
    verify(parse(text))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("rate=latent", "rate=frame", "rate 'frame' is none of geometry, prompt, step, latent"),
        ("%x : f32[2,3]", "%x : f32[0,3]", r"f32\[0,3\] has an empty dimension"),
        ("linear(", "conv(", "unknown opcode 'conv'"),
        ("%x, %w)", "%x)", "linear.*not enough values"),
        (
            "%0 = linear(%x, %w) : f32[2,5]",
            "%0 = linear(%x, %w) : f32[2,4]",
            r"the op makes \[\(\(2, 5\), 'float32'\)\]",
        ),
        (
            "%0 = linear(%x, %w) : f32[2,5]",
            "%0 = linear(%x, %w) : bf16[2,5]",
            r"the op makes \[\(\(2, 5\), 'float32'\)\]",
        ),
        ("%0 = linear(%x, %w) : f32[2,5]", "%0 = linear(%x, %x) : f32[2,2]{R,R}", "2 placements; the program has 0"),
        ("linear(%x, %w) : f32[2,5]", 'cast(%x) {dtype="int8"} : f32[2,3]', "the op makes"),
        ("linear(%x, %w) : f32[2,5]", "all_reduce(%x) {axis=0} : f32[2,3]", "all_reduce in a program without a mesh"),
        ("linear(%x, %w) : f32[2,5]", "softmax(%x) {dim=2} : f32[2,3]", "dim out of range"),
        ("linear(%x, %w) : f32[2,5]", "sum(%x) {dims=[2], keepdim=true} : f32[2,3]", r"dims \[2\] of a rank-2 shape"),
        ("linear(%x, %w) : f32[2,5]", "sum(%x) {dims=[0]} : f32[3]", "keepdim"),
        ('  return "y" %0\n', "", "the program has no outputs"),
        ('"y" %0', '"y" %0\n  return "y" %x', "output 'y' is returned twice"),
    ],
)
def test_errors_without_a_mesh(old: str, new: str, message: str) -> None:
    with pytest.raises(IRError, match=f"^@p: .*{message}"):
        verify(parse(GOOD.replace(old, new)))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("{R,R} rate", " rate", r"f32\[2,3\] has 0 placements; the program has 2 mesh axes"),
        ("{R,R} rate", "{R} rate", r"f32\[2,3\]\{R\} has 1 placements"),
        ("{R,R} rate", "{R,P} rate", r"f32\[2,3\]\{R,P\} is partial: inputs, params and outputs are whole or sharded"),
        ("{R,S(0:2)}", "{R,S(2:2)}", "shards a dimension that it has not"),
        ("{R,S(0:2)}", "{R,S(0:1)}", "4 pieces of 1 do not cover 5"),
        ("{R,S(0:2)}", "{S(0:3),S(0:2)}", "3 is no multiple of 2"),
        ("{R,S(0:2)}", "{S(0:5),S(0:2)}", "5 is no multiple of 2"),
        ("{R,S(0:2)}", "{S(0:10),S(0:2)}", "4 pieces of 2 do not cover 10"),
        ("{R,S(0:2)}", "{S(0:2),S(0:1)}", "2 pieces of 2 do not cover 5"),
        ("{R,S(0:2)}", "{R,S(0:0)}", "4 pieces of 0 do not cover 5"),
        ("{R,S(1:2)}", "{R,R}", r"results are \[\(\(2, 5\).*the op makes \[\(\(2, 2\)"),
        (
            "linear(%x, %w) : f32[2,5]{R,S(1:2)}",
            'annotate(%x) {name="a"} : f32[2,3]{R,R}',
            "annotate in a partitioned program",
        ),
        ('return "y" %0', '%1 = exp(%0) : f32[2,2]{R,P}\n  return "y" %1', r"f32\[2,2\]\{R,P\} is partial"),
        ("mesh=2x4", "mesh=0x4", "a mesh has at least one row and one column"),
    ],
)
def test_errors_on_a_mesh(old: str, new: str, message: str) -> None:
    assert old in MESH
    with pytest.raises(IRError, match=message):
        verify(parse(MESH.replace(old, new)))


def test_errors_print_the_line_with_its_location() -> None:
    with pytest.raises(IRError) as raised:
        verify(parse(GOOD.replace("f32[2,5]", "f32[2,4]")))
    assert str(raised.value).splitlines()[1] == '  %0 = linear(%x, %w) : f32[2,4]  loc "dit.py:7"'


def program_of(*ops: Op, outputs: list[Value]) -> Program:
    """The text form cannot say what these programs get wrong."""
    inputs = [Input(value, "latent") for op in ops for value in op.operands if value.name == "x"]
    return Program("p", inputs[:1], [], list(ops), [Output("y", value) for value in outputs])


F32 = TensorType((2,), "float32")


def test_use_before_definition() -> None:
    x, a, b = (Value(name, F32) for name in ("x", "a", "b"))
    with pytest.raises(IRError, match=r"%a is not defined before its use\n  %b = exp\(%a\)"):
        verify(program_of(Op("exp", [a], [b]), Op("exp", [x], [a]), outputs=[a]))


def test_a_name_defined_twice() -> None:
    x, a, again = (Value(name, F32) for name in ("x", "a", "a"))
    with pytest.raises(IRError, match="%a is defined twice"):
        verify(program_of(Op("exp", [x], [a]), Op("exp", [a], [again]), outputs=[again]))


def test_a_value_that_nothing_defines_is_returned() -> None:
    x, a = Value("x", F32), Value("a", F32)
    with pytest.raises(IRError, match=r"%ghost is not defined before its use\n  return \"y\" %ghost"):
        verify(program_of(Op("exp", [x], [a]), outputs=[Value("ghost", F32)]))


@pytest.mark.parametrize("name", ["", "a b", "a:b", "é"])
def test_names_must_read_back(name: str) -> None:
    x, a = Value("x", F32), Value(name, F32)
    with pytest.raises(IRError, match="is not a name"):
        verify(program_of(Op("exp", [x], [a]), outputs=[a]))


@pytest.mark.parametrize("value", [np.float64(1), np.int64(1), (1, 2), [np.int64(1)], {}])
def test_attributes_are_plain(value: Attr) -> None:
    x, a = Value("x", F32), Value("a", F32)
    with pytest.raises(IRError, match="not plain data"):
        verify(program_of(Op("add_scalar", [x], [a], {"value": value}), outputs=[a]))


@pytest.mark.parametrize(
    ("dtype", "array", "message"),
    [
        ("float32", np.zeros(3, np.float32), r"the constant's shape is \(3,\), the type's \(2,\)"),
        ("float32", np.zeros(2), "the constant is held as float64, expected float32"),
        ("bfloat16", np.zeros(2, np.int32), "the constant is held as int32, expected float32"),
    ],
)
def test_constants_fit_their_type(dtype: str, array: np.ndarray, message: str) -> None:
    value = Value("c", TensorType((2,), dtype))
    with pytest.raises(IRError, match=message):
        verify(Program("p", params=[Param(value, Constant(array))], outputs=[Output("y", value)]))


@pytest.mark.parametrize(
    ("parts", "dim", "message"),
    [
        (
            [((2, 3), "float32"), ((4, 3), "float32")],
            0,
            r"the parts join to float32\(6, 3\) on a device, not float32\(5, 3\)",
        ),
        ([((2, 3), "float32"), ((3, 4), "float32")], 0, "differ beyond dim 0"),
        ([((2, 3), "float32"), ((3, 3), "bfloat16")], 0, "dtypes differ"),
        ([((2, 3), "float32"), ((3, 3), "float32")], 2, "dim 2 of a rank-2 shape"),
        ([], 0, "concat"),
    ],
)
def test_parts_join_to_the_whole(parts: list[tuple[tuple[int, ...], str]], dim: int, message: str) -> None:
    value = Value("w", TensorType((5, 3), "float32"))
    recipe = Concat(tuple((Checkpoint("k"), TensorType(*part)) for part in parts), dim)
    with pytest.raises(IRError, match=message):
        verify(Program("p", params=[Param(value, recipe)], outputs=[Output("y", value)]))


def test_parts_join_on_a_device() -> None:
    parts = 'checkpoint("a") : f32[2,3]{R,S(0:1)}, checkpoint("b") : f32[3,3]{R,S(0:1)}'
    verify(parse(MESH.replace('checkpoint("w")', f"concat(0, [{parts}])")))


def test_a_dtype_that_only_devices_have() -> None:
    with pytest.raises(ValueError, match=r"dtype 'uint32' is none of float32, bfloat16, int32, bool, uint8"):
        check_type(TensorType((2,), "uint32", ()), None)
