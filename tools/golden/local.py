"""Functions that each chip does on its own: wrapped so that they round, and so that replicas are computed once."""

from collections.abc import Callable, Mapping, Sequence
from functools import reduce
from typing import Any

import ttnn
from torch import Tensor

from mochi_aot.runtime.torch.mesh import once_per_distinct
from mochi_aot.tools.golden.formats import widened
from mochi_aot.tools.golden.types import ChipMesh, Chips, Definition, GoldenError

# Keywords that say how a call is done, not what it computes, and of which type they must be.
MANNER: dict[str, type] = {"compute_kernel_config": ttnn.WormholeComputeKernelConfig}


def local(function: Callable[..., Any], keywords: str = "", required: str = "", like: int = 0) -> Definition:
    """Return a definition by function(*operands, **named) on one chip, which has one result or a tuple of them.

    `keywords` are the names, separated by spaces, that a call may have, and `required` those that it must have; "dtype"
    among them is that of the results, which otherwise are as operand `like`. Those of MANNER are checked and not passed
    on. Floats are float32 to the function.
    """
    needed = set(required.split())
    known = set(keywords.split()) | needed

    def definition(mesh: ChipMesh, *operands: Any, **named: Any) -> Any:
        require(named, known, needed)
        for name in MANNER.keys() & named.keys():
            if not isinstance(named[name], MANNER[name]):
                raise GoldenError(f"{name} is {named[name]!r}, expected a {MANNER[name].__name__}")
        passed = {name: value for name, value in named.items() if name not in MANNER}
        dtype = passed.pop("dtype", operands[like].dtype)
        return on_each_chip(mesh, function, operands, passed, dtype, operands[0].layout)

    return definition


def theirs(op: str, keywords: str = "", required: str = "", like: int = 0) -> Definition:
    """ttnn's own golden function of an op, called as `local` says."""
    return local(golden_function(op), keywords, required, like)


def golden_function(op: str) -> Callable[..., Any]:
    """ttnn's torch definition of the op at this path below `ttnn`."""
    function: Callable[..., Any] = reduce(getattr, op.split("."), ttnn).golden_function
    return function


def on_each_chip(
    mesh: ChipMesh,
    function: Callable[..., Any],
    operands: Sequence[Any],
    named: Mapping[str, Any],
    dtype: ttnn.DataType,
    layout: ttnn.Layout,
) -> Any:
    """function(*operands, **named) on each chip, with the chip's piece in the place of each tensor."""
    arguments = [*operands, *named.values()]
    tensors = [argument for argument in arguments if isinstance(argument, Chips)]

    def on_chip(*pieces: Tensor) -> tuple[Tensor, ...]:
        left = iter(map(widened, pieces))
        filled = [next(left) if isinstance(argument, Chips) else argument for argument in arguments]
        outcome = function(*filled[: len(operands)], **dict(zip(named, filled[len(operands) :], strict=True)))
        results = outcome if isinstance(outcome, tuple) else (outcome,)
        return tuple(mesh.held(result, dtype) for result in results)

    chips = once_per_distinct(on_chip, zip(*(tensor.pieces for tensor in tensors), strict=True))
    results = [Chips(list(pieces), dtype, layout) for pieces in zip(*chips, strict=True)]
    return results[0] if len(results) == 1 else tuple(results)


def require(named: Mapping[str, Any], known: set[str], needed: set[str]) -> None:
    """GoldenError for a keyword that is not known, which might say what a definition does not do, or one that lacks."""
    if not needed <= named.keys() <= known:
        raise GoldenError(f"keywords {sorted(named)}, expected {sorted(needed)} and none but {sorted(known)}")
