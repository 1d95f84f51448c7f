"""Walks a partitioned program; each op's rule emits the ttnn calls that do its work on every chip.

A lowered value is a tensor on each chip: its shape is what a chip holds. Ops are named by their path below `ttnn`.
"""

from dataclasses import dataclass, field, replace
from importlib.metadata import version

import numpy as np

from mochi_aot.artifacts import schema
from mochi_aot.artifacts.errors import MochiError
from mochi_aot.artifacts.ttnn_defects import known_defect, may_be_defective
from mochi_aot.compiler.ir.program import Attr, Constant, Op, Param, Program, Value
from mochi_aot.compiler.ir.types import REPLICATE, Shard, TensorType
from mochi_aot.compiler.lower.ttnn.traffic import is_collective, sent_bytes
from mochi_aot.compiler.lower.weights import weight_name
from mochi_aot.compiler.partition.cost import Cost

TILE, ROW_MAJOR = "tile", "row_major"
Shape = tuple[int, ...]


class LoweringError(MochiError):
    """A partitioned program that the ttnn target cannot run."""


@dataclass(frozen=True)
class Tensor:
    """A value on the chips.

    `heads_first`: an IR value [B, N, H, D] that is held as [B, H, N, D], as attention wants it. `packed`: an IR value
    of any rank that is held as [all but the last, last], since a tile pads the last dimension but one to 32. `flat`: a
    video [1, T, H, W, C] that is held as [1, T, H * W, C] for the same reason.
    """

    value: int
    shape: Shape
    dtype: str
    layout: str = TILE
    heads_first: bool = False
    packed: bool = False
    flat: bool = False

    def like(self, other: "Tensor") -> "Tensor":
        """This tensor, held in the form that `other` has."""
        return replace(self, heads_first=other.heads_first, packed=other.packed, flat=other.flat)


@dataclass(frozen=True)
class Weight:
    """A parameter in the form that an op wants: how its local tensor is prepared (see prepare.py), dtype and layout."""

    name: str
    param: Param
    preparation: str
    dtype: str
    layout: str


@dataclass(frozen=True)
class Lowered:
    """A program for ttnn and the weights it reads, in order of first use."""

    program: schema.Program
    weights: list[Weight]


@dataclass
class _Emitted:
    op: str
    operands: list[int]
    results: list[int]
    attrs: dict[str, Attr]
    loc: str


@dataclass
class Lowerer:
    """What rules use: `get` an operand's tensor, `weight` for a parameter, `emit` a call, `bind` the result."""

    source: Program
    mesh: tuple[int, int]
    weights_dtype: str
    links_dtype: str = "bfloat16"  # of what a denoising step's chips send each other; sums are still made in bfloat16
    tensors: dict[Value, Tensor] = field(default_factory=dict)
    weights: dict[str, tuple[Weight, Tensor]] = field(default_factory=dict)
    emitted: list[_Emitted] = field(default_factory=list)
    cache: dict[object, Tensor] = field(default_factory=dict)
    loc: str = ""
    made: list[Tensor] = field(default_factory=list)  # every value, by its number

    def __post_init__(self) -> None:
        self.params = {param.value: param for param in self.source.params}
        self.users = self.source.users()
        self.producers = {result: op for op in self.source.ops for result in op.results}
        self.absorbed: set[Op] = set()  # ops that another op's rule does the work of

    def new(self, shape: Shape, dtype: str, layout: str = TILE) -> Tensor:
        """A fresh value."""
        self.made.append(Tensor(len(self.made), shape, dtype, layout))
        return self.made[-1]

    def fail(self, reason: str) -> LoweringError:
        return LoweringError(f"ttnn target, program {self.source.name}, {self.loc}: {reason}")

    def get(self, value: Value, layout: str | None = TILE) -> Tensor:
        """An IR value's tensor, in natural order of dimensions, in `layout` (None: as it is). Parameters come as they
        are, tiled, in bfloat16 (or float32 where the IR says float32)."""
        tensor = self.held(value, layout or TILE)
        if tensor.heads_first:
            b, h, n, d = tensor.shape
            tensor = self.emit("permute", [tensor], (b, n, h, d), dims=[0, 2, 1, 3])
        if tensor.flat:
            tensor = self.to_layout(tensor, ROW_MAJOR)
        if tensor.packed or tensor.flat:
            shape = value.type.local_shape
            tensor = self.emit("reshape", [tensor], shape, shape=list(shape))
        return tensor if layout is None else self.to_layout(tensor, layout)

    def held(self, value: Value, layout: str = TILE) -> Tensor:
        """An IR value's tensor in whatever form it is held; a parameter is made in `layout`."""
        if value not in self.tensors and value in self.params:
            self.tensors[value] = self.weight(value, "plain", layout)
        return self.tensors[value]

    def to_layout(self, tensor: Tensor, layout: str) -> Tensor:
        """`tensor` in `layout`; asked twice, converted once."""
        if tensor.layout == layout:
            return tensor
        key = ("layout", tensor.value, layout)
        if key not in self.cache:
            self.cache[key] = self.emit("to_layout", [tensor], tensor.shape, layout=layout, out_layout=layout)
        return self.cache[key].like(tensor)

    def to_dtype(self, tensor: Tensor, dtype: str) -> Tensor:
        """`tensor` in `dtype`."""
        if tensor.dtype == dtype:
            return tensor
        key = ("dtype", tensor.value, dtype)
        if key not in self.cache:
            self.cache[key] = self.emit("typecast", [tensor], tensor.shape, out_dtype=dtype, dtype=dtype)
        return self.cache[key].like(tensor)

    def weight(
        self, value: Value, preparation: str, layout: str = TILE, dtype: str | None = None, shape: Shape | None = None
    ) -> Tensor:
        """A parameter prepared as prepare.py's `preparation`; `shape` is what that gives, if not the local shape."""
        param = self.params[value]
        dtype = dtype or ("float32" if param.value.type.dtype == "float32" else "bfloat16")
        name = f"{weight_name(param)}|{preparation}|{dtype}|{layout}"
        if name not in self.weights:
            tensor = self.new(shape or param.value.type.local_shape, dtype, layout)
            self.weights[name] = (Weight(name, param, preparation, dtype, layout), tensor)
        return self.weights[name][1]

    def constant(self, name: str, array: np.ndarray, dtype: str = "float32") -> Tensor:
        """A tiled constant that the IR does not have."""
        value = Value(name, TensorType(array.shape, "float32", (REPLICATE, REPLICATE)))
        key = ("constant", name, array.shape)
        if key not in self.cache:
            self.params[value] = Param(value, Constant(array))
            self.cache[key] = self.weight(value, "plain", dtype=dtype)
        return self.cache[key]

    def emit(
        self,
        op: str,
        operands: list[Tensor],
        shape: Shape,
        /,
        *,
        out_dtype: str | None = None,
        out_layout: str | None = None,
        **attrs: Attr,
    ) -> Tensor:
        """A call with one result; dtype and layout are the first operand's unless given."""
        like = operands[0]
        return self.emit_many(op, operands, [(shape, out_dtype or like.dtype, out_layout or like.layout)], **attrs)[0]

    def emit_many(
        self, op: str, operands: list[Tensor], results: list[tuple[Shape, str, str]], /, **attrs: Attr
    ) -> list[Tensor]:
        """A call with results of the given shapes, dtypes and layouts. LoweringError if it meets a known defect."""
        shapes = [tensor.shape for tensor in operands]
        defect = known_defect(op, attrs, shapes, self.mesh, version("ttnn")) if may_be_defective(op) else None
        if defect is not None:
            raise self.fail(f"{op}: {defect}")
        made = [self.new(*result) for result in results]
        ids = [tensor.value for tensor in operands]
        self.emitted.append(_Emitted(op, ids, [tensor.value for tensor in made], dict(attrs), self.loc))
        return made

    @property
    def sends_rounded(self) -> bool:
        """Whether values become bfloat8_b before they are sent: in the denoising step alone, which sends nearly all."""
        return self.links_dtype == "bfloat8_b" and self.source.name == "denoise"

    def only_user(self, value: Value) -> Op | None:
        """The single op that reads `value`, if there is just one and the value is no output."""
        users = self.users[value]
        is_output = any(output.value is value for output in self.source.outputs)
        return users[0] if len(users) == 1 and not is_output else None


def run(lowerer: Lowerer, plan: str, cost: Cost) -> Lowered:
    """Lowers the whole program. Raises LoweringError where an op cannot be done."""
    from mochi_aot.compiler.lower.ttnn.rules import RULES

    inputs = [_input(lowerer, item.value, item.rate) for item in lowerer.source.inputs]
    for op in lowerer.source.ops:
        lowerer.loc = op.loc
        if op in lowerer.absorbed:
            continue
        if op.opcode not in RULES:
            raise lowerer.fail(f"{op.opcode} has no ttnn lowering")
        RULES[op.opcode](lowerer, op)
    outputs = [_output(lowerer, output.name, output.value) for output in lowerer.source.outputs]
    weights = [weight for weight, _ in lowerer.weights.values()]
    program = schema.Program(
        name=lowerer.source.name,
        plan=plan,
        inputs=inputs,
        weights=[schema.ProgramWeight(weight.name, tensor.value) for weight, tensor in lowerer.weights.values()],
        outputs=outputs,
        instructions=_instructions(lowerer.emitted, {output.value for output in outputs}, _constants(lowerer)),
        stats=_stats(lowerer, cost),
    )
    return Lowered(program, weights)


def _stats(lowerer: Lowerer, cost: Cost) -> schema.ProgramStats:
    """Bytes sent and collectives are of the calls that run."""
    sent, counts = 0, dict[str, int]()
    for call in lowerer.emitted:
        if is_collective(call.op):
            sent += sent_bytes(call.op, call.attrs, [lowerer.made[i] for i in call.operands], lowerer.mesh)
            name = call.op.rpartition(".")[2]
            counts[name] = counts.get(name, 0) + 1
    return schema.ProgramStats(cost.flops, cost.weight_bytes, sent, counts)


def boundary_form(type: TensorType) -> tuple[str, str]:
    """Dtype and layout of a value that passes between programs or to the host.

    Masks and ids are what ttnn counts and looks up with. Tables of a row for each step are kept as embedding tables.
    """
    dtype = {"bool": "bfloat16", "int32": "uint32"}.get(type.dtype, type.dtype)
    return dtype, ROW_MAJOR if type.dtype in ("int32", "uint8") else TILE


def _input(lowerer: Lowerer, value: Value, rate: str) -> schema.ProgramInput:
    from mochi_aot.compiler.lower.ttnn.tables import is_table, table_form

    shape, (dtype, layout) = value.type.local_shape, boundary_form(value.type)
    if rate == "step" and is_table(value):
        shape, dtype, layout = table_form(value.type)
    tensor = lowerer.new(shape, dtype, layout)
    lowerer.tensors[value] = tensor
    return schema.ProgramInput(value.name, tensor.value, _spec(value.type, tensor), rate)


def _output(lowerer: Lowerer, name: str, value: Value) -> schema.ProgramOutput:
    from mochi_aot.compiler.lower.ttnn.tables import is_table_name, table_form, to_table

    if is_table_name(name):
        tensor = to_table(lowerer, lowerer.held(value), table_form(value.type))
    else:
        dtype, layout = boundary_form(value.type)
        tensor = lowerer.to_dtype(lowerer.get(value, layout), dtype)
    return schema.ProgramOutput(name, tensor.value, _spec(value.type, tensor))


def _spec(type: TensorType, tensor: Tensor) -> schema.TensorSpec:
    # A rule may have merged the last dimensions: the last one that is left is longer by a factor.
    rank = len(tensor.shape)
    shape, local = ((*dims, *[1] * rank)[:rank] for dims in (type.shape, type.local_shape))
    factors = [held // n for held, n in zip(tensor.shape, local, strict=True)]
    whole = [n * factor for n, factor in zip(shape, factors, strict=True)]
    placements = [
        schema.Placement(p.dim, p.chunk * factors[p.dim]) if isinstance(p, Shard) else None for p in type.placements
    ]
    return schema.TensorSpec(tensor.dtype, whole, list(tensor.shape), placements, tensor.layout)


def _constants(lowerer: Lowerer) -> set[int]:
    """Values that instructions do not own: weights."""
    return {tensor.value for _, tensor in lowerer.weights.values()}


def _instructions(emitted: list[_Emitted], outputs: set[int], kept: set[int]) -> list[schema.Instruction]:
    last_use = {v: i for i, e in enumerate(emitted) for v in (*e.operands, *e.results)}
    dead: dict[int, list[int]] = {}
    for value, index in last_use.items():
        if value not in outputs and value not in kept:
            dead.setdefault(index, []).append(value)
    return [
        schema.Instruction(e.op, e.operands, e.results, dict(e.attrs), sorted(dead.get(i, [])), e.loc)  # type: ignore[arg-type]
        for i, e in enumerate(emitted)
    ]
