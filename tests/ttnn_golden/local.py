"""Ops that each chip does on its own: wrapped so that they round, and so that replicas are computed once."""

from collections.abc import Callable, Sequence
from functools import reduce
from typing import Any

import ttnn
from torch import Tensor

from mochi_aot.runtime.torch.mesh import Mesh, once_per_distinct
from tests.ttnn_golden.formats import dtype_of, stored, widened
from tests.ttnn_golden.types import Attrs, Golden, GoldenError, Value

# Where and how an op is done, which leaves its result as it is but for rounding.
MANNER = {"kw", "memory_config", "layout", "compute", "program_config"}


def local(function: Callable[..., Any], attributes: str = "", like: int = 0) -> Golden:
    """A Golden of function(attrs, *tensors, **tensors), which has one result or a tuple of them.

    `attributes` are the names, separated by spaces, that an instruction may have besides MANNER and "dtype". Floats are
    float32 to the function. Results are rounded to attrs["dtype"], or without one to the dtype of operand `like`.
    """

    def golden(attrs: Attrs, mesh: Mesh, *operands: Value) -> list[Value]:
        require_known(attrs, attributes + " dtype")

        def on_chip(*tensors: Tensor) -> tuple[Tensor, ...]:
            dtype = attrs.get("dtype") or dtype_of(tensors[like])
            positional, named = by_keyword(attrs, [widened(tensor) for tensor in tensors])
            outcome = function(attrs, *positional, **named)
            results = outcome if isinstance(outcome, tuple) else (outcome,)
            return tuple(stored(result, dtype) for result in results)

        chips = once_per_distinct(on_chip, zip(*operands, strict=True))
        return [list(value) for value in zip(*chips, strict=True)]

    return golden


def theirs(op: str, positional: str = "", named: str = "", like: int = 0) -> Golden:
    """ttnn's own golden function of an op. Of its arguments that are no tensors, the attributes `positional` follow
    the tensors in that order and `named` go by name, each where the instruction has it."""
    function = golden_function(op)

    def call(attrs: Attrs, *tensors: Tensor, **tensors_by_name: Tensor) -> Any:
        arguments = [attrs[name] for name in positional.split() if name in attrs]
        keywords = {name: attrs[name] for name in named.split() if name in attrs}
        return function(*tensors, *arguments, **keywords, **tensors_by_name)

    return local(call, f"{positional} {named}", like)


def golden_function(op: str) -> Callable[..., Any]:
    """ttnn's torch definition of the op at this path below `ttnn`."""
    function: Callable[..., Any] = reduce(getattr, op.split("."), ttnn).golden_function
    return function


def by_keyword[T](attrs: Attrs, operands: Sequence[T]) -> tuple[list[T], dict[str, T]]:
    """Operands that are passed by position, and the trailing ones that attrs["kw"] names."""
    names = attrs.get("kw", [])
    count = len(operands) - len(names)
    return list(operands[:count]), dict(zip(names, operands[count:], strict=True))


def require_known(attrs: Attrs, attributes: str) -> None:
    """GoldenError for an attribute besides `attributes` and MANNER: it might say what the definition does not do."""
    unknown = set(attrs) - MANNER - set(attributes.split())
    if unknown:
        raise GoldenError(f"attributes {sorted(unknown)} have no meaning here, only {sorted(attributes.split())} have")
