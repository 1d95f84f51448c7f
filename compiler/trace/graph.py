"""What a handler works on: the program under construction, and the values of the exported graph's nodes."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mochi_aot.compiler.ir.builder import Builder
from mochi_aot.compiler.ir.errors import IRError
from mochi_aot.compiler.ir.program import Attr, Constant, Value
from mochi_aot.compiler.ir.types import TensorType
from mochi_aot.compiler.torch_dtypes import TRACED_DTYPES

DTYPE_NAMES = dict(TRACED_DTYPES)
DTYPE_NAMES[torch.int64] = "int32"  # indices; none of them exceeds 31 bits

Handler = Callable[["Graph", torch.fx.Node], Value | list[Value]]


class Graph:
    """The builder, what is known of each node, and the place in the reference of the node at hand."""

    def __init__(self, name: str) -> None:
        self.builder = Builder(name)
        self.values: dict[torch.fx.Node, list[Value]] = {}
        self.constants: dict[torch.fx.Node, Any] = {}  # of nodes known when tracing: a tensor, or several
        self.loc = ""

    def value(self, node: Any) -> Value:
        """Return the value of a node with one result; a trace-time constant becomes a parameter here, at its first
        use."""
        if node not in self.values:
            self.values[node] = [self._constant(node)]
        (value,) = self.values[node]
        return value

    def operand(self, node: torch.fx.Node, index: int = 0) -> Value:
        """Return the value of a node's positional argument."""
        return self.value(node.args[index])

    def _constant(self, node: torch.fx.Node) -> Value:
        tensor: torch.Tensor = self.constants[node]
        dtype = dtype_name(tensor.dtype)
        # numpy has no bfloat16: programs hold such constants as float32.
        kept = {"bfloat16": torch.float32, "int32": torch.int32}.get(dtype, tensor.dtype)
        array = np.array(tensor.to(kept).numpy(), order="C")
        return self.builder.param(f"const.{node.name}", TensorType(array.shape, dtype), Constant(array))

    def emit(self, opcode: str, operands: list[Value], **attrs: Attr) -> Value:
        """Append an op with one result, at the place at hand, and return the result."""
        (value,) = self.emit_many(opcode, operands, **attrs)
        return value

    def emit_many(self, opcode: str, operands: list[Value], **attrs: Attr) -> list[Value]:
        return self.builder.emit_many(opcode, operands, attrs, self.loc)

    def cast(self, value: Value, dtype: str) -> Value:
        return value if value.type.dtype == dtype else self.emit("cast", [value], dtype=dtype)


def handles(table: dict[str, Handler], *targets: str) -> Callable[[Handler], Handler]:
    """Register a handler for ATen (or custom) ops by their full names, as `aten.add.Tensor`."""

    def register(handler: Handler) -> Handler:
        table.update(dict.fromkeys(targets, handler))
        return handler

    return register


def dtype_name(dtype: torch.dtype) -> str:
    """Return a dtype in the IR. Raise IRError for one that it has not."""
    if dtype not in DTYPE_NAMES:
        raise IRError(f"programs have no {dtype}, only {', '.join(dict.fromkeys(DTYPE_NAMES.values()))}")
    return DTYPE_NAMES[dtype]


def arguments(node: torch.fx.Node, *names: str) -> list[Any]:
    """Return the arguments by their names in the op's schema, defaults filled in."""
    schema = node.target._schema  # type: ignore[union-attr]
    given = dict(zip((a.name for a in schema.arguments), node.args, strict=False)) | dict(node.kwargs)
    defaults = {a.name: a.default_value for a in schema.arguments if a.has_default_value()}
    return [(defaults | given)[name] for name in names]


def shape_of(node: torch.fx.Node) -> list[int]:
    """Return the shape that export found for a node's result."""
    return [int(n) for n in node.meta["val"].shape]


def dtype_of(node: torch.fx.Node) -> str:
    """Return the dtype that export found for a node's result."""
    return dtype_name(node.meta["val"].dtype)


def source_location(node: torch.fx.Node) -> str:
    """Return `folder/file:line` of the innermost `forward` outside torch that was running: export records no other
    frames."""
    for frame in reversed((node.meta.get("stack_trace") or "").splitlines()):
        line = frame.strip()
        if line.startswith('File "') and "/torch/" not in line:
            path, _, rest = line.removeprefix('File "').partition('", line ')
            return f"{Path(path).parent.name}/{Path(path).name}:{rest.split(',')[0]}"
    return ""
