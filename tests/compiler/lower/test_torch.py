"""Instruction lists: what they say, that the bundle's validator takes them, and when values are freed."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mochi_aot.artifacts import schema
from mochi_aot.artifacts.validate_program import check_program
from mochi_aot.compiler.ir.builder import Builder
from mochi_aot.compiler.ir.parser import parse
from mochi_aot.compiler.ir.program import Checkpoint, Program
from mochi_aot.compiler.ir.types import REPLICATE, Shard, TensorType
from mochi_aot.compiler.ir.verify import verify
from mochi_aot.compiler.lower.torch import lower, spec
from mochi_aot.compiler.partition.cost import Cost, cost_of
from mochi_aot.compiler.partition.plans import FAMILIES
from mochi_aot.compiler.partition.spmd import partition
from mochi_aot.compiler.passes.merge_linears import merge_linears
from mochi_aot.compiler.passes.simplify import simplify
from tests.compiler.tiny import programs

TEXT = """\
program @denoise mesh=1x2 {
  input %x : f32[4,6]{R,R} rate=latent
  input %t : f32[4,6]{R,R} rate=prompt
  input %idle : i32[1]{R,R} rate=step
  param %w : bf16[6,6]{R,S(0:3)} = checkpoint("dit.w")
  %0 = add(%x, %t) : f32[4,6]{R,R}  loc "dit.py:1"
  %1 = cast(%0) {dtype="bfloat16"} : bf16[4,6]{R,R}
  %2 = linear(%1, %w) : bf16[4,6]{R,S(1:3)}  loc "dit.py:2"
  %3 = all_gather(%2) {axis=1, dim=1, size=6} : bf16[4,6]{R,R}
  %4 = mul(%3, %1) : bf16[4,6]{R,R}
  return "y" %4
  return "cut" %2
}
"""


def spec_of(dtype: str, *shape: int) -> schema.TensorSpec:
    return schema.TensorSpec(dtype, list(shape), list(shape), [None, None])


def test_a_program_as_instructions() -> None:
    program = parse(TEXT)
    verify(program)
    lowered = lower(program, "sp1tp0", Cost(1, 2, 3, {"all_gather": 1}))
    check_program(lowered, "denoise")
    cut = schema.TensorSpec("bfloat16", [4, 6], [4, 3], [None, schema.Placement(1, 3)])
    assert lowered == schema.Program(
        name="denoise",
        mesh=[1, 2],
        plan="sp1tp0",
        inputs=[
            schema.ProgramInput("x", 0, spec_of("float32", 4, 6), "latent"),
            schema.ProgramInput("t", 1, spec_of("float32", 4, 6), "prompt"),
            schema.ProgramInput("idle", 2, spec_of("int32", 1), "step"),
        ],
        weights=[schema.ProgramWeight("dit.w/1:0:3/bfloat16", 3, "bfloat16", [3, 6])],
        outputs=[
            schema.ProgramOutput("y", 8, spec_of("bfloat16", 4, 6)),
            schema.ProgramOutput("cut", 6, cut),
        ],
        instructions=[
            schema.Instruction("add", [0, 1], [4], {}, [0, 1], "dit.py:1"),
            schema.Instruction("cast", [4], [5], {"dtype": "bfloat16"}, [4], ""),
            schema.Instruction("linear", [5, 3], [6], {}, [], "dit.py:2"),  # a weight and an output stay
            schema.Instruction("all_gather", [6], [7], {"axis": 1, "dim": 1, "size": 6}, [], ""),
            schema.Instruction("mul", [7, 5], [8], {}, [5, 7], ""),
        ],
        stats=schema.ProgramStats(1, 2, 3, {"all_gather": 1}),
    )


def test_a_result_that_nothing_reads_is_freed_at_once() -> None:
    program = parse(
        """\
program @p mesh=1x1 {
  input %q : f32[1,4,2,8]{R,R} rate=latent
  input %t : f32[1,3,2,8]{R,R} rate=latent
  input %mask : bool[1,3]{R,R} rate=prompt
  %0, %1 = joint_attention(%q, %q, %q, %t, %t, %t, %mask) {scale=0.5} : f32[1,4,2,8]{R,R}, f32[1,3,2,8]{R,R}
  return "y" %0
}
"""
    )
    lowered = lower(program, "p", Cost())
    check_program(lowered, "p")
    (instruction,) = lowered.instructions
    assert instruction.results == [3, 4]
    assert instruction.free == [0, 1, 2, 4]


def test_inputs_and_weights_that_are_outputs_are_not_freed() -> None:
    program = parse(
        """\
program @p mesh=1x1 {
  input %x : f32[2]{R,R} rate=latent
  param %w : f32[2]{R,R} = checkpoint("w")
  %0 = add(%x, %w) : f32[2]{R,R}
  return "x" %x
  return "w" %w
  return "y" %0
  return "again" %0
}
"""
    )
    lowered = lower(program, "p", Cost())
    check_program(lowered, "p")
    assert lowered.instructions[0].free == []
    assert [output.value for output in lowered.outputs] == [0, 1, 2, 2]


@pytest.mark.parametrize(
    ("type", "expected"),
    [
        (
            TensorType((5, 8), "float32", (Shard(0, 3), REPLICATE)),
            schema.TensorSpec("float32", [5, 8], [3, 8], [schema.Placement(0, 3), None]),
        ),
        (TensorType((), "bool", (REPLICATE, REPLICATE)), schema.TensorSpec("bool", [], [], [None, None])),
    ],
)
def test_types(type: TensorType, expected: schema.TensorSpec) -> None:
    assert spec(type) == expected


def freed_once_after_their_last_use(program: schema.Program) -> None:
    """Every value that an instruction makes or reads, weights and outputs aside."""
    kept = {weight.value for weight in program.weights} | {output.value for output in program.outputs}
    last_use = {
        value: index
        for index, instruction in enumerate(program.instructions)
        for value in (*instruction.operands, *instruction.results)
    }
    freed = {value: index for index, instruction in enumerate(program.instructions) for value in instruction.free}
    assert freed == {value: index for value, index in last_use.items() if value not in kept}
    assert sum(len(instruction.free) for instruction in program.instructions) == len(freed)


@pytest.mark.parametrize("role", ["encode_text", "prepare_prompt", "prepare_steps", "denoise", "decode", "encode"])
def test_the_models_programs(role: str) -> None:
    plans = next(plans for roles, plans in FAMILIES.items() if role in roles)
    for plan in plans.values():
        mesh = (2, 2)
        program = simplify(merge_linears(simplify(partition(programs()[role], mesh, plan))))
        lowered = lower(program, plan.name, cost_of(program))
        check_program(lowered, role)
        freed_once_after_their_last_use(lowered)
        assert [i.name for i in lowered.inputs] == [i.value.name for i in program.inputs]
        assert [i.op for i in lowered.instructions] == [op.opcode for op in program.ops]
        # A value on a device of a 2 x 2 mesh is never larger than the whole, padding of one row aside.
        assert lowered.stats.weight_bytes <= cost_of(programs()[role]).weight_bytes


@st.composite
def straight_lines(draw: st.DrawFn) -> Program:
    builder = Builder("p", (1, 1))
    type = TensorType((2,), "float32", (REPLICATE, REPLICATE))
    values = [builder.input(f"x{i}", type, "latent") for i in range(2)]
    values += [builder.param(f"w{i}", type, Checkpoint(f"w{i}")) for i in range(2)]
    for _ in range(draw(st.integers(0, 8))):
        operands = [draw(st.sampled_from(values)) for _ in range(2)]
        values += builder.emit_typed("add", operands, [type])
    for index in draw(st.sets(st.integers(0, len(values) - 1), min_size=1, max_size=4)):
        builder.output(f"y{index}", values[index])
    return builder.program


@given(straight_lines())
def test_any_program_frees_each_value_once(program: Program) -> None:
    lowered = lower(program, "p", Cost())
    check_program(lowered, "p")
    freed_once_after_their_last_use(lowered)
