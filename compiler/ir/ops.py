"""The table of operations: for each opcode, the rule that gives its results' shapes and dtypes.

Rules work on the shapes that a device holds, so the same table checks programs before and after partitioning.
"""

import math
from collections.abc import Callable

import numpy as np

from mochi_aot.compiler.ir.errors import IRError
from mochi_aot.compiler.ir.program import Attrs

Shape = tuple[int, ...]
Spec = tuple[Shape, str]  # what one device holds of a value: shape and dtype
Mesh = tuple[int, int]
Rule = Callable[[Attrs, list[Spec], Mesh], list[Spec]]

OPS: dict[str, Rule] = {}

UNARY = ("silu", "gelu_tanh", "tanh", "sin", "cos", "exp", "round", "add_scalar", "mul_scalar", "clamp", "annotate")
BINARY = ("add", "sub", "mul", "div")
ELEMENTWISE = frozenset(UNARY + BINARY + ("cast", "where_scalar"))
COLLECTIVES = frozenset(
    ("shard", "all_gather", "all_reduce", "reduce_scatter", "all_to_all", "halo_exchange", "ring_joint_attention")
)


def infer(opcode: str, attrs: Attrs, operands: list[Spec], mesh: Mesh = (1, 1)) -> list[Spec]:
    """Return the local shapes and dtypes of the results.

    Raise IRError for an unknown opcode or operands that do not fit.
    """
    rule = OPS.get(opcode)
    if rule is None:
        raise IRError(f"unknown opcode {opcode!r}")
    try:
        return rule(attrs, operands, mesh)
    except (KeyError, IndexError, ValueError) as error:
        raise IRError(f"{opcode}{operands} {attrs}: {error}") from error


def _op(*names: str) -> Callable[[Rule], Rule]:
    def register(rule: Rule) -> Rule:
        OPS.update(dict.fromkeys(names, rule))
        return rule

    return register


def ints(attr: object) -> list[int]:
    """Return an attribute that must be a list of integers."""
    if not isinstance(attr, list) or not all(isinstance(i, int) for i in attr):
        raise ValueError(f"expected a list of integers, not {attr!r}")
    return attr


def integer(attr: object) -> int:
    """Return an attribute that must be an integer."""
    if not isinstance(attr, int):
        raise ValueError(f"expected an integer, not {attr!r}")
    return attr


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise ValueError(message)


def _resized(shape: Shape, dim: int, size: int) -> Shape:
    _require(0 <= dim < len(shape), f"dim {dim} of a rank-{len(shape)} shape")
    return (*shape[:dim], size, *shape[dim + 1 :])


@_op(*UNARY)
def _unary(attrs: Attrs, operands: list[Spec], mesh: Mesh) -> list[Spec]:
    (x,) = operands
    return [x]


@_op(*BINARY)
def _binary(attrs: Attrs, operands: list[Spec], mesh: Mesh) -> list[Spec]:
    (a, dtype), (b, dtype_b) = operands
    _require(dtype == dtype_b, f"dtypes {dtype} and {dtype_b} differ")
    return [(np.broadcast_shapes(a, b), dtype)]


@_op("cast")
def _cast(attrs: Attrs, operands: list[Spec], mesh: Mesh) -> list[Spec]:
    return [(operands[0][0], str(attrs["dtype"]))]


@_op("where_scalar")
def _where_scalar(attrs: Attrs, operands: list[Spec], mesh: Mesh) -> list[Spec]:
    (condition, kind), (x, dtype) = operands
    _require(kind == "bool", f"condition is {kind}")
    return [(np.broadcast_shapes(condition, x), dtype)]


@_op("reshape")
def _reshape(attrs: Attrs, operands: list[Spec], mesh: Mesh) -> list[Spec]:
    ((x, dtype),) = operands
    shape = tuple(ints(attrs["shape"]))
    _require(math.prod(shape) == math.prod(x), f"{x} has not the elements of {shape}")
    return [(shape, dtype)]


@_op("expand")
def _expand(attrs: Attrs, operands: list[Spec], mesh: Mesh) -> list[Spec]:
    ((x, dtype),) = operands
    shape = tuple(ints(attrs["shape"]))
    _require(np.broadcast_shapes(x, shape) == shape, f"{x} does not expand to {shape}")
    return [(shape, dtype)]


@_op("permute")
def _permute(attrs: Attrs, operands: list[Spec], mesh: Mesh) -> list[Spec]:
    ((x, dtype),) = operands
    dims = ints(attrs["dims"])
    _require(sorted(dims) == list(range(len(x))), f"{dims} does not permute rank {len(x)}")
    return [(tuple(x[d] for d in dims), dtype)]


@_op("slice")
def _slice(attrs: Attrs, operands: list[Spec], mesh: Mesh) -> list[Spec]:
    ((x, dtype),) = operands
    dim, start, stop = (integer(attrs[k]) for k in ("dim", "start", "stop"))
    _require(0 <= start < stop <= x[dim], f"[{start}:{stop}] of size {x[dim]}")
    return [(_resized(x, dim, stop - start), dtype)]


@_op("concat")
def _concat(attrs: Attrs, operands: list[Spec], mesh: Mesh) -> list[Spec]:
    dim = integer(attrs["dim"])
    shapes = [shape for shape, _ in operands]
    _require(len({dtype for _, dtype in operands}) == 1, "dtypes differ")
    _require(len({_resized(shape, dim, 0) for shape in shapes}) == 1, f"shapes {shapes} differ beyond dim {dim}")
    return [(_resized(shapes[0], dim, sum(shape[dim] for shape in shapes)), operands[0][1])]


@_op("select")
def _select(attrs: Attrs, operands: list[Spec], mesh: Mesh) -> list[Spec]:
    (table, dtype), index = operands
    _require(index == ((1,), "int32"), f"index is {index}, not int32[1]")
    dim = integer(attrs["dim"])
    _require(0 <= dim < len(table), f"dim {dim} of a rank-{len(table)} table")
    return [(table[:dim] + table[dim + 1 :], dtype)]


@_op("embedding")
def _embedding(attrs: Attrs, operands: list[Spec], mesh: Mesh) -> list[Spec]:
    (weight, dtype), (ids, kind) = operands
    _require(kind == "int32" and len(weight) == 2, f"ids are {kind}, table {weight}")
    return [((*ids, weight[1]), dtype)]


@_op("sum", "mean")
def _reduce(attrs: Attrs, operands: list[Spec], mesh: Mesh) -> list[Spec]:
    ((x, dtype),) = operands
    dims = ints(attrs["dims"])
    _require(set(dims) <= set(range(len(x))), f"dims {dims} of a rank-{len(x)} shape")
    if attrs["keepdim"]:
        return [(tuple(1 if d in dims else n for d, n in enumerate(x)), dtype)]
    return [(tuple(n for d, n in enumerate(x) if d not in dims), dtype)]


@_op("softmax")
def _softmax(attrs: Attrs, operands: list[Spec], mesh: Mesh) -> list[Spec]:
    _require(0 <= integer(attrs["dim"]) < len(operands[0][0]), "dim out of range")
    return [operands[0]]


@_op("linear")
def _linear(attrs: Attrs, operands: list[Spec], mesh: Mesh) -> list[Spec]:
    (x, dtype), (w, _), *bias = operands
    _require(x[-1] == w[1], f"input width {x[-1]}, weight {w}")
    _require(all(b == (w[0],) for b, _ in bias), f"bias {bias} of weight {w}")
    _require(len({d for _, d in operands}) == 1, "dtypes differ")
    return [((*x[:-1], w[0]), dtype)]


@_op("linear_float8")
def _linear_float8(attrs: Attrs, operands: list[Spec], mesh: Mesh) -> list[Spec]:
    (x, dtype), (w, kind), (scales, scale_kind), *bias = operands
    _require(x[-1] == w[1], f"input width {x[-1]}, weight {w}")
    _require(kind == "float8" and scale_kind == "float32", f"weight is {kind}, its scales {scale_kind}")
    _require(scales == (w[0],), f"scales {scales} of weight {w}")
    _require(all(b == ((w[0],), dtype) for b in bias), f"bias {bias} of weight {w}")
    return [((*x[:-1], w[0]), dtype)]


@_op("matmul")
def _matmul(attrs: Attrs, operands: list[Spec], mesh: Mesh) -> list[Spec]:
    (a, dtype), (b, _) = operands
    _require(a[-1] == b[-2], f"{a} @ {b}")
    return [((*np.broadcast_shapes(a[:-2], b[:-2]), a[-2], b[-1]), dtype)]


@_op("rms_norm")
def _rms_norm(attrs: Attrs, operands: list[Spec], mesh: Mesh) -> list[Spec]:
    (x, dtype), *scale = operands
    _require(all(np.broadcast_shapes(s, x) == x for s, _ in scale), f"scale {scale} on {x}")
    return [(x, dtype)]


@_op("rope")
def _rope(attrs: Attrs, operands: list[Spec], mesh: Mesh) -> list[Spec]:
    (x, dtype), (cos, _), (sin, _) = operands
    _require(cos == sin == (x[1], x[2], x[3] // 2), f"tables {cos}, {sin} for {x}")
    return [(x, dtype)]


@_op("attention")
def _attention(attrs: Attrs, operands: list[Spec], mesh: Mesh) -> list[Spec]:
    (q, dtype), (k, _), (v, _), *bias = operands
    _require(q[:-2] == k[:-2] == v[:-2] and k[-2] == v[-2] and q[-1] == k[-1], f"q {q}, k {k}, v {v}")
    scores = (*q[:-1], k[-2])
    _require(all(np.broadcast_shapes(b, scores) == scores for b, _ in bias), f"bias {bias} on scores {scores}")
    return [((*q[:-1], v[-1]), dtype)]


@_op("joint_attention", "ring_joint_attention")
def _joint_attention(attrs: Attrs, operands: list[Spec], mesh: Mesh) -> list[Spec]:
    q, k, v, q_text, k_text, v_text, (mask, kind) = operands
    _require(q == k == v and q_text == k_text == v_text, "q, k and v differ")
    _require(q[0][2:] == q_text[0][2:], f"heads of {q} and {q_text}")
    _require(kind == "bool" and mask[:1] == q_text[0][:1], f"mask {kind}{mask} for {q_text}")
    _require(q_text[0][1] == mask[1], f"text {q_text}, mask {mask}")
    return [q, q_text]


@_op("causal_conv3d")
def _causal_conv3d(attrs: Attrs, operands: list[Spec], mesh: Mesh) -> list[Spec]:
    (x, dtype), (w, _), *bias = operands
    stride, pad = ints(attrs["stride"]), ints(attrs["padding"])
    _require(len(x) == 5 and x[4] == w[1], f"input {x}, weight {w}")
    _require(all(b == (w[0],) for b, _ in bias), f"bias {bias}")
    padded = (x[1] + pad[0], x[2] + pad[1] + pad[2], x[3] + pad[3] + pad[4])
    extent = tuple((n - k) // s + 1 for n, k, s in zip(padded, w[2:], stride, strict=True))
    _require(min(extent) > 0, f"input {x} is smaller than the kernel {w}")
    return [((x[0], *extent, w[0]), dtype)]


@_op("group_norm")
def _group_norm(attrs: Attrs, operands: list[Spec], mesh: Mesh) -> list[Spec]:
    (x, dtype), (w, _), (b, _) = operands
    _require(len(x) == 5 and w == b == (x[4],) and x[4] % integer(attrs["groups"]) == 0, f"{x} with {w}, {b}")
    return [(x, dtype)]


@_op("group_norm_stats")
def _group_norm_stats(attrs: Attrs, operands: list[Spec], mesh: Mesh) -> list[Spec]:
    x = operands[0][0]
    return [((1, 1, x[0], x[1], integer(attrs["groups"]), 3), "float32")]


@_op("group_norm_apply")
def _group_norm_apply(attrs: Attrs, operands: list[Spec], mesh: Mesh) -> list[Spec]:
    (x, dtype), (stats, _), (w, _), (b, _) = operands
    _require(stats[2:4] == x[:2] and w == b == (x[4],), f"{x} with statistics {stats}")
    return [(x, dtype)]


@_op("count_nonfinite")
def _count_nonfinite(attrs: Attrs, operands: list[Spec], mesh: Mesh) -> list[Spec]:
    """Infer the count of a video, after those counted `before`."""
    (x, _), *before = operands
    _require(len(x) == 5 and before in ([], [((1, 1), "float32")]), f"{x} after {before}")
    return [((1, 1), "float32")]


@_op("shard")
def _shard(attrs: Attrs, operands: list[Spec], mesh: Mesh) -> list[Spec]:
    ((x, dtype),) = operands
    return [(_resized(x, integer(attrs["dim"]), integer(attrs["chunk"])), dtype)]


@_op("reduce_scatter")
def _reduce_scatter(attrs: Attrs, operands: list[Spec], mesh: Mesh) -> list[Spec]:
    return _shard(attrs, operands, mesh)


@_op("all_gather")
def _all_gather(attrs: Attrs, operands: list[Spec], mesh: Mesh) -> list[Spec]:
    ((x, dtype),) = operands
    dim, size = integer(attrs["dim"]), integer(attrs["size"])
    _require(size <= x[dim] * mesh[integer(attrs["axis"])], f"size {size} of pieces of {x[dim]}")
    return [(_resized(x, dim, size), dtype)]


@_op("all_reduce")
def _all_reduce(attrs: Attrs, operands: list[Spec], mesh: Mesh) -> list[Spec]:
    return [operands[0]]


@_op("all_to_all")
def _all_to_all(attrs: Attrs, operands: list[Spec], mesh: Mesh) -> list[Spec]:
    ((x, dtype),) = operands
    gathered = _resized(x, integer(attrs["gather_dim"]), integer(attrs["size"]))
    return [(_resized(gathered, integer(attrs["split_dim"]), integer(attrs["chunk"])), dtype)]


@_op("halo_exchange")
def _halo_exchange(attrs: Attrs, operands: list[Spec], mesh: Mesh) -> list[Spec]:
    ((x, dtype),) = operands
    dim, before, after, chunk = (integer(attrs[k]) for k in ("dim", "before", "after", "chunk"))
    _require(x[dim] == chunk, f"chunk {chunk} of a local extent {x[dim]}")
    return [(_resized(x, dim, before + chunk + after), dtype)]
