"""What the rules of lowering use: tensors on the chips, weights in the forms that ops want, and the calls emitted.

A lowered value is a tensor on each chip: its shape is what a chip holds. Ops are named by their path below `ttnn`.
"""

from dataclasses import dataclass, field, replace
from enum import Enum, auto

import numpy as np
import torch

from mochi_aot.artifacts.errors import ExitCode, MochiError
from mochi_aot.artifacts.machines import WORMHOLE
from mochi_aot.artifacts.ttnn_defects import known_defect, may_be_defective
from mochi_aot.artifacts.versions import installed_version
from mochi_aot.compiler.ir.program import Attr, Constant, Op, Param, Program, Value
from mochi_aot.compiler.ir.types import REPLICATE, TensorType
from mochi_aot.compiler.lower.ttnn.prepare import PLAIN, Preparation
from mochi_aot.compiler.lower.weights import weight_name

TILE, ROW_MAJOR = "tile", "row_major"
Shape = tuple[int, ...]


class LoweringError(MochiError):
    """A partitioned program that the ttnn target cannot run."""

    exit_code = ExitCode.REFUSED


class Form(Enum):
    """How the dimensions of an IR value are held on the chips."""

    NATURAL = auto()  # as the IR has them
    HEADS_FIRST = auto()  # [B, N, H, D] as [B, H, N, D], as attention wants it
    PACKED = auto()  # any rank as [all but the last, last], since a tile pads the last dimension but one to 32
    GROUPED = auto()  # a video of few channels as groups of 32 pixels, see rules/pixels.py
    FLAT = auto()  # a video [1, T, H, W, C] as [1, T, H * W, C], for the same reason


@dataclass(frozen=True)
class Tensor:
    """A value on the chips, and the form in which it holds an IR value."""

    value: int
    shape: Shape
    dtype: str
    layout: str = TILE
    form: Form = Form.NATURAL

    def like(self, other: "Tensor") -> "Tensor":
        """Return this tensor, held in the form that `other` has."""
        return self.held_as(other.form)

    def held_as(self, form: Form) -> "Tensor":
        """Return this tensor as one that holds an IR value in `form`."""
        return replace(self, form=form)


@dataclass(frozen=True)
class Weight:
    """A parameter in the form that an op wants: how its local tensor is prepared (see prepare.py), dtype and layout."""

    name: str
    param: Param
    preparation: Preparation
    dtype: str
    layout: str

    @property
    def local_shape(self) -> list[int]:
        """What a chip holds; no numbers are prepared, only their shape."""
        local = torch.empty(self.param.value.type.local_shape, device="meta")
        return list(self.preparation(local).shape)


@dataclass
class Emitted:
    """A call that was emitted, its operands and results by their numbers."""

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
    arch: str = WORMHOLE
    tensors: dict[Value, Tensor] = field(default_factory=dict)
    weights: dict[str, tuple[Weight, Tensor]] = field(default_factory=dict)
    emitted: list[Emitted] = field(default_factory=list)
    cache: dict[object, Tensor] = field(default_factory=dict)
    loc: str = ""
    made: list[Tensor] = field(default_factory=list)  # every value, by its number

    def __post_init__(self) -> None:
        self.params = {param.value: param for param in self.source.params}
        self.users = self.source.users()
        self.producers = {result: op for op in self.source.ops for result in op.results}
        self.absorbed: set[Op] = set()  # ops that another op's rule does the work of

    def new(self, shape: Shape, dtype: str, layout: str = TILE) -> Tensor:
        """Make a fresh value."""
        self.made.append(Tensor(len(self.made), shape, dtype, layout))
        return self.made[-1]

    def fail(self, reason: str) -> LoweringError:
        return LoweringError(f"ttnn target, program {self.source.name}, {self.loc}: {reason}")

    def get(self, value: Value, layout: str | None = TILE) -> Tensor:
        """Return an IR value's tensor, in natural order of dimensions, in `layout` (None: as it is).

        Parameters come as they are, tiled, in bfloat16 (or float32 where the IR says float32).
        """
        tensor = self.held(value, layout or TILE)
        if tensor.form is Form.HEADS_FIRST:
            b, h, n, d = tensor.shape
            tensor = self.emit("permute", [tensor], (b, n, h, d), dims=[0, 2, 1, 3])
        if tensor.form is Form.FLAT:
            tensor = self.to_layout(tensor, ROW_MAJOR)
        if tensor.form in (Form.PACKED, Form.FLAT):
            shape = value.type.local_shape
            tensor = self.emit("reshape", [tensor], shape, shape=list(shape))
        return tensor if layout is None else self.to_layout(tensor, layout)

    def held(self, value: Value, layout: str = TILE) -> Tensor:
        """Return an IR value's tensor in whatever form it is held; a parameter is made in `layout`."""
        if value not in self.tensors and value in self.params:
            self.tensors[value] = self.weight(value, PLAIN, layout)
        return self.tensors[value]

    def to_layout(self, tensor: Tensor, layout: str) -> Tensor:
        """Return `tensor` in `layout`; asked twice, converted once."""
        if tensor.layout == layout:
            return tensor
        key = ("layout", tensor.value, layout)
        if key not in self.cache:
            self.cache[key] = self.emit("to_layout", [tensor], tensor.shape, layout=layout, out_layout=layout)
        return self.cache[key].like(tensor)

    def to_dtype(self, tensor: Tensor, dtype: str) -> Tensor:
        """Return `tensor` in `dtype`."""
        if tensor.dtype == dtype:
            return tensor
        key = ("dtype", tensor.value, dtype)
        if key not in self.cache:
            self.cache[key] = self.emit("typecast", [tensor], tensor.shape, out_dtype=dtype, dtype=dtype)
        return self.cache[key].like(tensor)

    def weight(
        self,
        value: Value,
        preparation: Preparation,
        layout: str = TILE,
        dtype: str | None = None,
        shape: Shape | None = None,
    ) -> Tensor:
        """Return a parameter, prepared; `shape` is what the preparation gives, if not the local shape."""
        param = self.params[value]
        dtype = dtype or ("float32" if param.value.type.dtype == "float32" else "bfloat16")
        name = f"{weight_name(param)}|{preparation}|{dtype}|{layout}"
        if name not in self.weights:
            tensor = self.new(shape or param.value.type.local_shape, dtype, layout)
            self.weights[name] = (Weight(name, param, preparation, dtype, layout), tensor)
        return self.weights[name][1]

    def constant(self, name: str, array: np.ndarray, dtype: str = "float32") -> Tensor:
        """Return a tiled constant that the IR does not have."""
        value = Value(name, TensorType(array.shape, "float32", (REPLICATE, REPLICATE)))
        key = ("constant", name, array.shape)
        if key not in self.cache:
            self.params[value] = Param(value, Constant(array))
            self.cache[key] = self.weight(value, PLAIN, dtype=dtype)
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
        """Emit a call with one result; dtype and layout are the first operand's unless given."""
        like = operands[0]
        return self.emit_many(op, operands, [(shape, out_dtype or like.dtype, out_layout or like.layout)], **attrs)[0]

    def emit_many(
        self, op: str, operands: list[Tensor], results: list[tuple[Shape, str, str]], /, **attrs: Attr
    ) -> list[Tensor]:
        """Emit a call with results of the given shapes, dtypes and layouts.

        Raise LoweringError if it meets a known defect.
        """
        shapes = [tensor.shape for tensor in operands]
        defect = (
            known_defect(op, attrs, shapes, self.mesh, installed_version("ttnn") or "")
            if may_be_defective(op)
            else None
        )
        if defect is not None:
            raise self.fail(f"{op}: {defect}")
        made = [self.new(*result) for result in results]
        ids = [tensor.value for tensor in operands]
        self.emitted.append(Emitted(op, ids, [tensor.value for tensor in made], dict(attrs), self.loc))
        return made

    @property
    def sends_rounded(self) -> bool:
        """Whether values become bfloat8_b before they are sent: in the denoising step alone, which sends nearly all."""
        return self.links_dtype == "bfloat8_b" and self.source.name == "denoise"

    @property
    def fidelity(self) -> str:
        """The compute config of products and of attention with a mask.

        HiFi2 cuts low bits of one operand, so that products come out 0.3 % too small (docs/ttnn.md has the figures).
        That is what practice accepts where the time goes; programs that run once a prompt or a video need not.
        """
        return "hifi2" if self.source.name in ("denoise", "decode") else "hifi4"

    def only_user(self, value: Value) -> Op | None:
        """Return the single op that reads `value`, if there is just one and the value is no output."""
        users = self.users[value]
        is_output = any(output.value is value for output in self.source.outputs)
        return users[0] if len(users) == 1 and not is_output else None
