"""Each ATen op that has a handler: traced and interpreted, it computes what torch does."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from mochi_aot.compiler.ir.errors import IRError
from tests.compiler.trace.traced import Function, check, opcodes, traced

GENERATOR = torch.Generator().manual_seed(0)
X = torch.randn(2, 3, 4, generator=GENERATOR)
Y = torch.randn(2, 3, 4, generator=GENERATOR)
ROW = torch.randn(4, generator=GENERATOR)
INTS = torch.arange(-3, 3, dtype=torch.int32).reshape(2, 3)
MASK = torch.tensor([[True, False, True, True]])
# Both round a float32 result; where its last bits differ, that may go to either neighbour, 2^-7 of the number apart.
BFLOAT16 = 2.0**-7


def cases(*functions: tuple[str, Function]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("function", [pytest.param(function, id=name) for name, function in functions])


@cases(
    ("silu", F.silu),
    ("gelu", lambda x: F.gelu(x, approximate="tanh")),
    ("tanh", torch.tanh),
    ("sin", torch.sin),
    ("cos", torch.cos),
    ("exp", torch.exp),
    ("round", lambda x: torch.round(x * 2)),
    ("neg", lambda x: -x),
    ("clamp below", lambda x: x.clamp(min=-0.5)),
    ("clamp above", lambda x: x.clamp(max=0.5)),
    ("clamp", lambda x: x.clamp(-0.5, 0.5)),
)
def test_of_one_value(function: Function) -> None:
    check(function, X)
    check(function, X.bfloat16(), tolerance=BFLOAT16)


@cases(
    ("add", lambda x, y: x + y),
    ("sub", lambda x, y: x - y),
    ("mul", lambda x, y: x * y),
    ("div", lambda x, y: x / (y * y + 1)),
    ("with itself", lambda x, y: x * x + y),
)
def test_of_two_values(function: Function) -> None:
    check(function, X, Y)
    check(function, X, ROW)
    check(function, ROW, Y)


@cases(
    ("add", lambda x: x + 2),
    ("sub", lambda x: x - 0.5),
    ("mul", lambda x: 3 * x),
    ("div", lambda x: x / 127.5),
    ("rsub", lambda x: 1 - x),
)
def test_of_a_value_and_a_number(function: Function) -> None:
    check(function, X)
    check(function, INTS)
    check(function, X.bfloat16(), tolerance=BFLOAT16)


def test_numbers_keep_the_kind_of_the_value() -> None:
    """A float added to integers in torch, on the target that is, would make floats of them."""
    (op,) = traced(lambda x: x + 2, INTS).ops
    assert op.attrs == {"value": 2}
    assert isinstance(op.attrs["value"], int)
    (op,) = traced(lambda x: x + 2, X).ops
    assert isinstance(op.attrs["value"], float)


def test_clamp_says_which_bounds_there_are() -> None:
    assert traced(lambda x: x.clamp(min=1), X).ops[0].attrs == {"min": 1.0, "max": None}
    assert traced(lambda x: x.clamp(max=2), INTS).ops[0].attrs == {"min": None, "max": 2}


def test_operands_are_cast_to_what_torch_promotes_them_to() -> None:
    program = check(lambda x, y: x + y, X.bfloat16(), Y)
    assert opcodes(program) == ["cast", "add"]
    check(lambda x, n: x[0] * n[0, 0], X, INTS)
    check(lambda n: n / 2, INTS)
    check(lambda n: n * 0.5, INTS)


@cases(
    ("float", lambda x: x.float()),
    ("bfloat16", lambda x: x.to(torch.bfloat16)),
    ("int", lambda x: (x * 3).to(torch.int32)),
    ("uint8", lambda x: (x * x).to(torch.uint8)),
    ("the same", lambda x: x.to(torch.float32)),
    ("bool and back", lambda x: x.bool().float()),
)
def test_casts(function: Function) -> None:
    check(function, X)


def test_casts_of_what_the_host_gives() -> None:
    check(lambda x: x.float() / 127.5 - 1, torch.arange(12, dtype=torch.uint8).reshape(3, 4))
    check(lambda x: x.to(torch.bfloat16), MASK)
    check(lambda x: x.long() + 1, INTS)


@cases(
    ("contiguous", lambda x: x.transpose(0, 1).contiguous()),
    ("clone", lambda x: x.transpose(0, 1).clone()),
    ("detach", lambda x: x.transpose(0, 1).detach()),
    ("dropout", lambda x: F.dropout(x.transpose(0, 1), 0.5, training=False)),
)
def test_what_changes_nothing_makes_no_op(function: Function) -> None:
    assert opcodes(check(function, X)) == ["permute"]


def test_where() -> None:
    check(lambda mask, x: torch.where(mask, x, -2.0), MASK, X)
    check(lambda mask, n: torch.where(mask, n, 7), torch.tensor([True, False, True]), INTS)


@cases(
    ("view", lambda x: x.view(6, 4)),
    ("reshape", lambda x: x.reshape(-1)),
    ("flatten", lambda x: x.flatten(1)),
    ("unflatten", lambda x: x.unflatten(-1, (2, -1))),
    ("unsqueeze", lambda x: x[:, None].unsqueeze(-1)),
    ("squeeze", lambda x: x[:1, :, :1].squeeze()),
    ("squeeze a dimension", lambda x: x[:1, :, :1].squeeze(-1)),
    ("squeeze dimensions", lambda x: x[:1, :, :1].squeeze((0, 2))),
    ("expand", lambda x: x[:, :1].expand(-1, 5, -1)),
    ("expand to more dimensions", lambda x: x[0].expand(2, 2, -1, -1)),
    ("permute", lambda x: x.permute(2, -3, 1)),
    ("transpose", lambda x: x.transpose(-1, 0)),
    ("slice", lambda x: x[:, 1:3]),
    ("slice to the end", lambda x: x[..., -2:]),
    ("select", lambda x: x[1]),
    ("select from the end", lambda x: x[..., -1]),
    ("cat", lambda x: torch.cat([x, x[:, :1]], dim=-2)),
    ("stack", lambda x: torch.stack([x, x * 2], dim=-1)),
    ("stack in front", lambda x: torch.stack([x, x * 2])),
)
def test_moves(function: Function) -> None:
    check(function, X)


@cases(
    ("chunk", lambda x: x.chunk(2, dim=-1)[1]),
    ("uneven chunks", lambda x: torch.cat(x.chunk(2, dim=1)[::-1], dim=1)),
    ("split", lambda x: x.split(3, dim=-1)[1]),
    ("split by sizes", lambda x: torch.cat(x.split([1, 3], dim=2)[::-1], dim=2)),
    ("unbind", lambda x: x.unbind(1)[2] - x.unbind(-2)[0]),
)
def test_several_results(function: Function) -> None:
    check(function, X)


@cases(
    ("mean", lambda x: x.mean(-1)),
    ("mean, kept", lambda x: x.mean(1, keepdim=True)),
    ("mean of two", lambda x: x.mean((0, -1))),
    ("sum", lambda x: x.sum(1)),
    ("sum, kept", lambda x: x.sum((-1, 0), keepdim=True)),
    ("sum of all", lambda x: x.sum(dim=())),
    ("softmax", lambda x: x.softmax(-1)),
    ("softmax in the middle", lambda x: F.softmax(x, dim=1)),
)
def test_reductions(function: Function) -> None:
    check(function, X)


def test_reductions_in_another_dtype() -> None:
    check(lambda mask: mask.sum(-1), MASK)
    assert opcodes(check(lambda x: x.sum(-1, dtype=torch.float32), X.bfloat16())) == ["cast", "sum"]
    assert opcodes(check(lambda x: F.softmax(x, dim=-1, dtype=torch.float32), X.bfloat16())) == ["cast", "softmax"]


def test_products() -> None:
    weight = torch.randn(5, 4, generator=GENERATOR)
    bias = torch.randn(5, generator=GENERATOR)
    check(F.linear, X, weight)
    check(F.linear, X, weight, bias)
    check(lambda x, w, b: F.linear(x, w, bias=b), X, weight, bias)
    check(torch.matmul, X, Y.transpose(1, 2).contiguous())
    check(lambda x, w: x @ w.transpose(0, 1), X, weight)


def test_embedding() -> None:
    ids = torch.tensor([[3, 0], [1, 3]])
    check(F.embedding, ids, torch.randn(4, 5, generator=GENERATOR))
    check(F.embedding, ids.int(), torch.randn(4, 5, generator=GENERATOR))


def heads(length: int) -> Tensor:
    return torch.randn(2, 3, length, 4, generator=GENERATOR)


@cases(
    ("plain", F.scaled_dot_product_attention),
    ("scaled", lambda q, k, v: F.scaled_dot_product_attention(q, k, v, scale=0.1)),
    ("not scaled", lambda q, k, v: F.scaled_dot_product_attention(q, k, v, scale=1.0)),
    ("biased", lambda q, k, v: F.scaled_dot_product_attention(q, k, v, attn_mask=k[:, :1, :, 0].unsqueeze(-2))),
)
def test_attention(function: Function) -> None:
    check(function, heads(5), heads(6), heads(6))


def test_causal_attention() -> None:
    check(lambda q, k, v: F.scaled_dot_product_attention(q, k, v, is_causal=True), heads(5), heads(5), heads(5))


@pytest.mark.parametrize(
    ("function", "arguments", "problem"),
    [
        (F.gelu, [X], r"aten.gelu.default at trace/.*: approximate='none'; only 'tanh' has an op"),
        (lambda x: x[:, ::2], [X], r"aten.slice.Tensor at trace/traced.py:\d+: step 2; only 1 has an op"),
        (
            lambda x, y: torch.add(x, y, alpha=2),
            [X, Y],
            r"aten.add.Tensor at trace/traced.py:\d+: alpha=2; multiply the operand instead",
        ),
        (
            lambda x: F.dropout(x, 0.25),
            [X],
            r"aten.dropout.default at trace/traced.py:\d+: drops 0.25 of its input; trace modules in evaluation",
        ),
        (
            lambda q, m: F.scaled_dot_product_attention(q, q, q, attn_mask=m),
            [heads(5), torch.ones(5, 5, dtype=torch.bool)],
            r"aten.scaled_dot_product_attention.default at .*: the mask is bool; add a bias to the scores instead",
        ),
        (
            lambda q: F.scaled_dot_product_attention(q, q, q, dropout_p=0.5),
            [heads(5)],
            r"dropout_p=0.5, enable_gqa=False; neither has an op",
        ),
        (lambda x: x.double(), [X], r"aten.to.dtype at .*: programs have no torch.float64, only float32, bfloat16"),
        (lambda x, y: x @ y[0, 0], [X, Y], r"aten.matmul.default at .*: matmul\[\(\(2, 3, 4\)"),
    ],
    ids=["gelu", "slice", "add", "dropout", "bool mask", "attention dropout", "float64", "vector product"],
)
def test_what_has_no_op_is_refused(function: Function, arguments: list[Tensor], problem: str) -> None:
    with pytest.raises(IRError, match=problem):
        traced(function, *arguments)
