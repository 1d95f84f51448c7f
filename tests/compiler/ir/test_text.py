"""The text form: a golden example, and that it reads back as what was written."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from mochi_aot.artifacts.dtypes import PROGRAM_DTYPES
from mochi_aot.artifacts.roles import RATES
from mochi_aot.compiler.ir import program as ir
from mochi_aot.compiler.ir.parser import parse
from mochi_aot.compiler.ir.text import constants_of, op_text, to_text
from mochi_aot.compiler.ir.types import PARTIAL, REPLICATE, Placement, Shard, TensorType

GOLDEN = """\
program @denoise mesh=2x4 {
  input %latents : f32[1,12,5,6,8]{R,R} rate=latent
  input %step : i32[1]{R,R} rate=step
  param %q : bf16[3072,3072]{R,S(0:768)} = checkpoint("dit.blocks.0.attn.q_x.weight")
  param %kv : bf16[4,8]{S(1:4),R} = concat(0, [checkpoint("k") : bf16[1,8]{S(1:4),R}, checkpoint("v") : bf16[3,8]])
  param %cos : f32[40,3,8]{S(0:20),R} = computed("denoise.geometry", "geometry.3")
  param %pos : f32[] = constant("b74a843fa49c2a8d")
  %0 = clamp(%latents) {min=-1.0, max=null} : f32[1,12,5,6,8]{R,R}
  %1, %2 = split(%0, %step) {scale=0.125, valid=[[2, 1]], dims=[], flag=true} : f32[2]{R,P}, bool[1]  loc "dit.py:120"
  return "latents" %0
}
"""


def golden_program() -> ir.Program:
    whole, columns, rows = (REPLICATE, REPLICATE), (REPLICATE, Shard(0, 768)), (Shard(1, 4), REPLICATE)
    latents = ir.Value("latents", TensorType((1, 12, 5, 6, 8), "float32", whole))
    step = ir.Value("step", TensorType((1,), "int32", whole))
    k = ir.Checkpoint("k"), TensorType((1, 8), "bfloat16", rows)
    v = ir.Checkpoint("v"), TensorType((3, 8), "bfloat16")
    params: dict[ir.Value, ir.Recipe] = {
        ir.Value("q", TensorType((3072, 3072), "bfloat16", columns)): ir.Checkpoint("dit.blocks.0.attn.q_x.weight"),
        ir.Value("kv", TensorType((4, 8), "bfloat16", rows)): ir.Concat((k, v), 0),
        ir.Value("cos", TensorType((40, 3, 8), "float32", (Shard(0, 20), REPLICATE))): ir.Computed(
            "denoise.geometry", "geometry.3"
        ),
        ir.Value("pos", TensorType((), "float32")): ir.Constant(np.array(0.5, np.float32)),
    }
    clamp = ir.Op("clamp", [latents], [ir.Value("0", latents.type)], {"min": -1.0, "max": None})
    results = [
        ir.Value("1", TensorType((2,), "float32", (REPLICATE, PARTIAL))),
        ir.Value("2", TensorType((1,), "bool")),
    ]
    attrs: dict[str, ir.Attr] = {"scale": 0.125, "valid": [[2, 1]], "dims": [], "flag": True}
    split = ir.Op("split", [clamp.result, step], results, attrs, "dit.py:120")
    return ir.Program(
        "denoise",
        [ir.Input(latents, "latent"), ir.Input(step, "step")],
        [ir.Param(value, recipe) for value, recipe in params.items()],
        [clamp, split],
        [ir.Output("latents", clamp.result)],
        (2, 4),
    )


def test_golden_text() -> None:
    assert to_text(golden_program()) == GOLDEN


def test_golden_text_reads_back() -> None:
    program = golden_program()
    assert_equal(parse(GOLDEN, constants_of(program)), program)


def test_op_text_is_the_line_of_the_program() -> None:
    assert f"  {op_text(golden_program().ops[1])}\n" in GOLDEN


def test_constants_are_filed_by_content() -> None:
    a, b = np.zeros((2, 3), np.float32), np.zeros((3, 2), np.float32)
    type = TensorType((2, 3), "float32")
    parts = ((ir.Constant(a), type), (ir.Constant(b), type), (ir.Constant(a.copy()), type))
    program = ir.Program("p", params=[ir.Param(ir.Value("x", type), ir.Concat(parts, 0))])
    assert set(constants_of(program)) == {ir.Constant(a).key, ir.Constant(b).key}
    assert ir.Constant(a).key != ir.Constant(b).key
    assert ir.Constant(a).key != ir.Constant(a.astype(np.int32)).key


names = st.text("abcXYZ019_.-", min_size=1, max_size=8)
words = st.text("abcdefgh_", min_size=1, max_size=8)
texts = st.text(max_size=12)
placements: st.SearchStrategy[Placement] = st.one_of(
    st.just(REPLICATE), st.just(PARTIAL), st.builds(Shard, st.integers(0, 4), st.integers(1, 99))
)
types = st.builds(
    TensorType,
    st.lists(st.integers(0, 50000), max_size=5).map(tuple),
    st.sampled_from(list(PROGRAM_DTYPES)),
    st.one_of(st.just(()), st.tuples(placements, placements)),
)
scalars = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), texts)
integers = st.lists(st.integers(), max_size=3)
attrs = st.dictionaries(words, st.one_of(scalars, integers, st.lists(integers, max_size=3)), max_size=4)
constants = st.lists(st.floats(width=32, allow_nan=False), max_size=3).map(
    lambda x: ir.Constant(np.array(x, np.float32))
)
leaves: st.SearchStrategy[ir.Recipe] = st.one_of(
    st.builds(ir.Checkpoint, texts), st.builds(ir.Computed, texts, texts), constants
)
recipes: st.SearchStrategy[ir.Recipe] = st.recursive(
    leaves,
    lambda part: st.builds(ir.Concat, st.lists(st.tuples(part, types), max_size=3).map(tuple), st.integers(0, 4)),
    max_leaves=4,
)


@st.composite
def programs(draw: st.DrawFn) -> ir.Program:
    """Well-formed as text, not as a program: types, opcodes and attributes mean nothing."""
    count = draw(st.tuples(st.integers(1, 3), st.integers(0, 3), st.integers(0, 4)))
    fresh = iter(draw(st.lists(names, min_size=sum(count) + count[2], max_size=sum(count) + count[2], unique=True)))

    def value() -> ir.Value:
        return ir.Value(next(fresh), draw(types))

    program = ir.Program(
        draw(names), mesh=draw(st.one_of(st.none(), st.tuples(st.integers(1, 32), st.integers(1, 32))))
    )
    program.inputs = [ir.Input(value(), draw(st.sampled_from(RATES))) for _ in range(count[0])]
    program.params = [ir.Param(value(), draw(recipes)) for _ in range(count[1])]
    for _ in range(count[2]):
        operands = draw(st.lists(st.sampled_from(list(program.values())), max_size=3))
        results = [value() for _ in range(draw(st.integers(1, 2)))]
        program.ops.append(ir.Op(draw(words), operands, results, draw(attrs), draw(texts)))
    returned = draw(st.lists(st.sampled_from(list(program.values())), max_size=3))
    program.outputs = [ir.Output(draw(texts), value) for value in returned]
    return program


@given(programs())
def test_text_reads_back(program: ir.Program) -> None:
    assert_equal(parse(to_text(program), constants_of(program)), program)


def assert_equal(a: ir.Program, b: ir.Program) -> None:
    """Structural equality: names, types, recipes, ops, attributes with their types, locations and outputs."""
    assert (a.name, a.mesh) == (b.name, b.mesh)
    assert [(signature(i.value), i.rate) for i in a.inputs] == [(signature(i.value), i.rate) for i in b.inputs]
    assert [signature(p.value) for p in a.params] == [signature(p.value) for p in b.params]
    assert [facts(p.recipe) for p in a.params] == [facts(p.recipe) for p in b.params]
    assert [op_facts(op) for op in a.ops] == [op_facts(op) for op in b.ops]
    assert [(o.name, o.value.name) for o in a.outputs] == [(o.name, o.value.name) for o in b.outputs]
    defined = set(a.values())
    assert all(value in defined for op in a.ops for value in op.operands)
    assert all(output.value in defined for output in a.outputs)


def signature(value: ir.Value) -> tuple[str, TensorType]:
    return value.name, value.type


def op_facts(op: ir.Op) -> tuple[object, ...]:
    attributes = [(key, repr(value)) for key, value in op.attrs.items()]
    return op.opcode, [v.name for v in op.operands], [signature(v) for v in op.results], attributes, op.loc


def facts(recipe: ir.Recipe) -> object:
    if isinstance(recipe, ir.Constant):
        return recipe.array.dtype, recipe.array.shape, recipe.array.tobytes()
    if isinstance(recipe, ir.Concat):
        return recipe.dim, [(facts(part), type) for part, type in recipe.parts]
    return recipe
