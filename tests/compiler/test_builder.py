"""The builder keeps names unique and types inferred."""

import pytest

from mochi_aot.compiler.ir.builder import Builder, attrs_key, copy_signature
from mochi_aot.compiler.ir.errors import IRError
from mochi_aot.compiler.ir.parser import parse
from mochi_aot.compiler.ir.program import Checkpoint
from mochi_aot.compiler.ir.text import to_text
from mochi_aot.compiler.ir.types import REPLICATE, Shard, TensorType
from mochi_aot.compiler.ir.verify import verify

PAIR = TensorType((2, 3), "float32")


def test_a_program_is_what_was_appended() -> None:
    builder = Builder("p")
    x = builder.input("x", PAIR, "latent")
    w = builder.param("w", TensorType((4, 3), "float32"), Checkpoint("dit.w"))
    y = builder.emit("linear", [x, w], loc="dit.py:7")
    builder.output("y", builder.emit("add_scalar", [y], {"value": 1.0}))
    verify(builder.program)
    assert to_text(builder.program) == (
        "program @p {\n"
        "  input %x : f32[2,3] rate=latent\n"
        '  param %w : f32[4,3] = checkpoint("dit.w")\n'
        '  %0 = linear(%x, %w) : f32[2,4]  loc "dit.py:7"\n'
        "  %1 = add_scalar(%0) {value=1.0} : f32[2,4]\n"
        '  return "y" %1\n'
        "}\n"
    )


def test_fresh_names_step_around_given_ones() -> None:
    builder = Builder("p")
    x = builder.input("0", PAIR, "latent")
    builder.input("2", PAIR, "latent")
    assert [builder.emit("exp", [x]).name for _ in range(3)] == ["1", "3", "4"]


def test_a_prefix_marks_fresh_names() -> None:
    builder = Builder("p", prefix="v")
    assert builder.emit("exp", [builder.input("x", PAIR, "latent")]).name == "v0"


def test_a_name_is_given_once() -> None:
    builder = Builder("p")
    builder.input("x", PAIR, "latent")
    with pytest.raises(IRError, match=r"value %x is defined twice in @p"):
        builder.param("x", PAIR, Checkpoint("x"))


def test_several_results() -> None:
    builder = Builder("p")
    q, text = (builder.input(name, TensorType((1, n, 2, 4), "bfloat16"), "latent") for name, n in (("q", 5), ("t", 3)))
    mask = builder.input("mask", TensorType((1, 3), "bool"), "prompt")
    results = builder.emit_many("joint_attention", [q, q, q, text, text, text, mask], {"scale": 0.5})
    assert [value.type for value in results] == [q.type, text.type]
    with pytest.raises(ValueError, match="too many values"):
        builder.emit("joint_attention", [q, q, q, text, text, text, mask], {"scale": 0.5})


def test_operands_that_do_not_fit_are_refused() -> None:
    builder = Builder("p")
    x = builder.input("x", PAIR, "latent")
    with pytest.raises(IRError, match="unknown opcode 'frobnicate'"):
        builder.emit("frobnicate", [x])
    with pytest.raises(IRError, match=r"reshape.*\(2, 3\) has not the elements of \(7,\)"):
        builder.emit("reshape", [x], {"shape": [7]})
    assert not builder.program.ops


def test_a_copy_has_operands_of_its_own_program_and_attributes_of_its_own() -> None:
    source = parse(
        "program @s {\n"
        "  input %x : f32[2,3] rate=latent\n"
        '  %y = sum(%x) {dims=[1], keepdim=false} : f32[2]  loc "vae.py:3"\n'
        '  return "y" %y\n'
        "}\n"
    )
    builder = Builder("copy")
    values = copy_signature(source, builder)
    builder.copy_op(source.ops[0], values)
    (copy,) = builder.program.ops
    assert copy.operands == [builder.program.inputs[0].value]
    assert values[source.ops[0].result] is copy.result
    assert (copy.attrs, copy.loc) == (source.ops[0].attrs, "vae.py:3")
    copy.attrs["keepdim"] = True
    assert source.ops[0].attrs["keepdim"] is False


def test_a_copied_signature_keeps_rates_recipes_and_placements() -> None:
    text = (
        "program @s mesh=2x2 {\n"
        "  input %x : f32[2,3]{R,R} rate=prompt\n"
        '  param %w : bf16[4,3]{S(0:2),R} = checkpoint("dit.w")\n'
        "}\n"
    )
    source = parse(text)
    builder = Builder("s", source.mesh)
    values = copy_signature(source, builder)
    assert to_text(builder.program) == text
    assert values[source.params[0].value].type.placements == (Shard(0, 2), REPLICATE)


def test_attributes_that_differ_in_kind_have_different_keys() -> None:
    keys = [attrs_key({"value": value}) for value in (1, 1.0, True, None, "1", [1])]
    assert len(set(keys)) == len(keys)
    assert attrs_key({"a": 1, "b": [2]}) == attrs_key({"b": [2], "a": 1})
