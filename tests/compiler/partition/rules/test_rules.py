"""Each op's rule, on operands placed anywhere on any mesh: results equal those of one device."""

from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mochi_aot.compiler.ir.program import Attrs, Value
from mochi_aot.compiler.partition.rules import RULES
from tests.compiler.partition.legal import placements
from tests.compiler.partition.rules.anywhere import Anywhere, Make, cases, check

MAKERS: dict[str, list[Make]] = {}


def makes(*opcodes: str) -> Callable[[Make], Make]:
    """Registers what builds a program around one of these ops."""

    def register(make: Make) -> Make:
        for opcode in opcodes:
            MAKERS.setdefault(opcode, []).append(make)
        return make

    return register


def _register(opcode: str, make: Callable[[Anywhere, str], None]) -> None:
    MAKERS.setdefault(opcode, []).append(lambda case: make(case, opcode))


ATTRS: dict[str, Attrs] = {
    "add_scalar": {"value": 1.5},
    "mul_scalar": {"value": 1.5},
    "clamp": {"min": -0.5, "max": None},
}


def _unary(case: Anywhere, opcode: str) -> None:
    case.emit(opcode, [case.any(*case.shape())], **ATTRS.get(opcode, {}))


def _binary(case: Anywhere, opcode: str) -> None:
    """Operands of the same shape, or of one that broadcasts."""
    shape = case.shape()
    broadcast = tuple(n if case.draw(st.booleans()) else 1 for n in shape)[case.draw(st.integers(0, len(shape))) :]
    operands = [case.any(*shape), case.any(*broadcast) if broadcast else case.input()]
    case.emit(opcode, case.draw(st.permutations(operands)))


for _name in ("silu", "gelu_tanh", "tanh", "sin", "cos", "exp", "add_scalar", "mul_scalar", "clamp"):
    _register(_name, _unary)
for _name in ("add", "sub", "mul"):
    _register(_name, _binary)


@makes("round")
def _round(case: Anywhere) -> None:
    """Of numbers that are near no half, for their sums may be made in any order."""
    case.emit("round", [case.builder.emit("mul_scalar", [case.input(*case.shape())], {"value": 3.0})])


@makes("div")
def _div(case: Anywhere) -> None:
    shape = case.shape()
    divisor = case.builder.emit("add_scalar", [case.builder.emit("exp", [case.any(*shape)])], {"value": 1.0})
    case.emit("div", [case.any(*shape), divisor])


@makes("cast")
def _cast(case: Anywhere) -> None:
    ids = case.input(*case.shape(), dtype="int32")
    case.emit("cast", [ids], dtype="float32")


@makes("where_scalar")
def _where(case: Anywhere) -> None:
    shape = case.shape(2)
    case.emit("where_scalar", [case.input(*shape[1:], dtype="bool"), case.any(*shape)], value=-3.0)


@makes("annotate")
def _annotate(case: Anywhere) -> None:
    value = case.put(case.put(case.any(*case.shape())))
    case.emit("mul_scalar", [value], value=1.0)


@makes("reshape")
def _reshape(case: Anywhere) -> None:
    """Splits, merges and both, between dimensions that stay."""
    a, b, c, d = (case.size(1, 4) for _ in range(4))
    shapes = [(a, b * c, d), (a, b, c, d), (a * b, c, d), (a, b, c * d), (a * b, c * d), (a, 1, b, c * d)]
    source, target = case.draw(st.sampled_from(shapes)), case.draw(st.sampled_from(shapes))
    case.emit("reshape", [case.any(*source)], shape=list(target))


@makes("permute")
def _permute(case: Anywhere) -> None:
    shape = case.shape()
    case.emit("permute", [case.any(*shape)], dims=list(case.draw(st.permutations(range(len(shape))))))


@makes("expand")
def _expand(case: Anywhere) -> None:
    shape = case.shape()
    narrow = tuple(n if case.draw(st.booleans()) else 1 for n in shape)
    added = case.draw(st.integers(0, len(shape) - 1))
    case.emit("expand", [case.any(*narrow[added:])], shape=list(shape))


@makes("slice")
def _slice(case: Anywhere) -> None:
    shape = case.shape()
    dim = case.dim(shape)
    start = case.draw(st.integers(0, shape[dim] - 1))
    stop = case.draw(st.integers(start + 1, shape[dim]))
    case.emit("slice", [case.any(*shape)], dim=dim, start=start, stop=stop)


@makes("concat")
def _concat(case: Anywhere) -> None:
    shape = case.shape()
    dim = case.dim(shape)
    parts = [case.any(*shape[:dim], case.size(), *shape[dim + 1 :]) for _ in range(case.draw(st.integers(1, 3)))]
    case.emit("concat", parts, dim=dim)


@makes("select")
def _select(case: Anywhere) -> None:
    shape = (case.size(2), *case.shape(1, 2))
    order = case.draw(st.permutations(range(len(shape))))
    shape = tuple(shape[d] for d in order)
    case.emit("select", [case.any(*shape), case.input(1, dtype="int32")], dim=order.index(0))


@makes("embedding")
def _embedding(case: Anywhere) -> None:
    ids = case.input(*case.shape(1, 2), dtype="int32")
    case.emit("embedding", [case.any(case.size(2), case.size()), ids])


@makes("sum", "mean")
def _reduce(case: Anywhere) -> None:
    shape = case.shape()
    dims = sorted(case.draw(st.sets(st.integers(0, len(shape) - 1), min_size=1)))
    x = case.any(*shape)
    for opcode in ("sum", "mean"):
        case.emit(opcode, [x], dims=dims, keepdim=case.draw(st.booleans()))


@makes("softmax")
def _softmax(case: Anywhere) -> None:
    shape = case.shape()
    case.emit("softmax", [case.any(*shape)], dim=case.dim(shape))


@makes("linear")
def _linear(case: Anywhere) -> None:
    """Widths that the mesh divides: only then may a weight be cut by columns."""
    pieces = case.mesh[0] * case.mesh[1]
    width, out = pieces * case.size(1, 2), pieces * case.size(1, 2)
    operands = [case.any(*case.shape(1, 2), width), case.even_param(out, width)]
    case.emit("linear", operands + ([case.any(out)] if case.draw(st.booleans()) else []))


@makes("linear")
def _linear_by_padded_rows(case: Anywhere) -> None:
    """A weight whose rows are cut unevenly."""
    rows = case.size()
    weight = case.param(rows, 4, where=case.draw(placements((rows,), case.mesh)))
    case.emit("linear", [case.any(*case.shape(1, 2), 4), weight])


@makes("linear")
def _linear_of_a_sum(case: Anywhere) -> None:
    """A weight that is itself computed, perhaps in summands."""
    case.emit("linear", [case.any(*case.shape(1, 2), 4), case.summands(case.size(), 4)])


@makes("linear")
def _linears_of_one_operand(case: Anywhere) -> None:
    """Which are merged afterwards where they are cut alike."""
    pieces = case.mesh[0] * case.mesh[1]
    x = case.any(2, 3, 2 * pieces)
    for _ in range(3):
        case.emit("linear", [x, case.even_param(pieces * case.size(1, 2), 2 * pieces)])


@makes("matmul")
def _matmul(case: Anywhere) -> None:
    batch = case.shape(0, 2)
    left, right = ([n if case.draw(st.booleans()) else 1 for n in batch] for _ in range(2))
    rows, inner, columns = (case.size(1, 4) for _ in range(3))
    case.emit("matmul", [case.any(*left, rows, inner), case.any(*right, inner, columns)])


@makes("rms_norm")
def _rms_norm(case: Anywhere) -> None:
    shape = case.shape()
    scale = tuple(n if case.draw(st.booleans()) else 1 for n in shape)[case.dim(shape) :]
    operands = [case.any(*shape)] + ([case.any(*scale)] if case.draw(st.booleans()) else [])
    case.emit("rms_norm", operands, eps=1e-2)


@makes("rope")
def _rope(case: Anywhere) -> None:
    batch, length, heads, pairs = (case.size(1, 4) for _ in range(4))
    table = (length, heads, pairs)
    case.emit("rope", [case.any(batch, length, heads, 2 * pairs), case.any(*table), case.any(*table)])


@makes("attention")
def _attention(case: Anywhere) -> None:
    batch, heads, length, keys, width = (case.size(1, 4) for _ in range(5))
    operands: list[Value] = [
        case.any(batch, heads, length, width),
        case.any(batch, heads, keys, width),
        case.any(batch, heads, keys, width),
    ]
    if case.draw(st.booleans()):
        operands.append(case.any(*(n if case.draw(st.booleans()) else 1 for n in (batch, heads, length, keys))))
    case.emit("attention", operands, scale=0.5, causal=length == keys and case.draw(st.booleans()))


@makes("joint_attention")
def _joint_attention(case: Anywhere) -> None:
    batch, length, text, heads, width = (case.size(1, 4) for _ in range(5))
    operands = [case.any(batch, length, heads, width) for _ in range(3)]
    operands += [case.any(batch, text, heads, width) for _ in range(3)]
    case.emit("joint_attention", [*operands, case.input(batch, text, dtype="bool")], scale=0.5)


KERNELS = [
    # kernel, stride, padding: of a residual block, of the encoder's stages, and an even one that shrinks
    ((3, 3, 3), (1, 1, 1), (2, 1, 1, 1, 1)),
    ((2, 2, 2), (2, 2, 2), (1, 0, 0, 0, 0)),
    ((3, 2, 2), (3, 2, 2), (2, 0, 0, 0, 0)),
    ((1, 1, 1), (1, 1, 1), (0, 0, 0, 0, 0)),
    ((2, 2, 1), (1, 1, 1), (0, 0, 0, 0, 0)),
    ((1, 5, 2), (1, 1, 1), (0, 2, 2, 0, 0)),
]


@makes("causal_conv3d")
def _causal_conv3d(case: Anywhere) -> None:
    kernel, stride, padding = case.draw(st.sampled_from(KERNELS))
    sizes = [case.size(2, 6) for _ in range(3)]
    sizes[0] = max(sizes[0], kernel[0] - padding[0])
    x = case.any(case.size(1, 2), *sizes, 2)
    operands = [x, case.param(3, 2, *kernel)] + ([case.param(3)] if case.draw(st.booleans()) else [])
    case.emit("causal_conv3d", operands, stride=list(stride), padding=list(padding))


@makes("group_norm")
def _group_norm(case: Anywhere) -> None:
    x = case.any(*(case.size(1, 4) for _ in range(4)), 6)
    case.emit("group_norm", [x, case.any(6), case.any(6)], groups=case.draw(st.sampled_from([1, 2, 3])), eps=1e-2)


@makes("count_nonfinite")
def _count_nonfinite(case: Anywhere) -> None:
    """About half of the elements are infinite. A mesh has a count for each device that holds a piece."""
    huge = case.builder.emit("mul_scalar", [case.any(*(case.size(1, 4) for _ in range(5)))], {"value": 1e6})
    x = case.builder.emit("exp", [case.put(huge)])
    count = case.builder.emit("count_nonfinite", [x], {"valid": []})
    if case.draw(st.booleans()):
        count = case.builder.emit("count_nonfinite", [x, count], {"valid": []})
    case.emit("sum", [count], dims=[0, 1], keepdim=False)


def test_every_rule_is_tested() -> None:
    assert set(MAKERS) == set(RULES)


@pytest.mark.parametrize(
    "make", [pytest.param(make, id=f"{name}{i or ''}") for name, all in MAKERS.items() for i, make in enumerate(all)]
)
def test_rule(make: Make) -> None:
    @settings(max_examples=25, suppress_health_check=list(HealthCheck))
    @given(cases(make))
    def on_any_mesh(case: Anywhere) -> None:
        check(case)

    on_any_mesh()
