"""Puts definitions over torch tensors in the place of ttnn's functions, below the runtime, which runs as it is.

The runtime's tables hold ttnn's functions themselves. They are objects of one class, so what is replaced is how that
class is called; no module of the runtime is touched. Enumerations and configurations are ttnn's own.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import reduce
from typing import Any
from unittest.mock import patch

import ttnn
from ttnn.decorators import FastOperation

from mochi_aot.runtime.ttnn.semaphores import forget_semaphores
from mochi_aot.tools.golden.definitions import OURS, THEIRS
from mochi_aot.tools.golden.definitions.device import Semaphore
from mochi_aot.tools.golden.types import ChipMesh, GoldenError

DEFINITIONS = THEIRS | OURS


def operation(path: str) -> FastOperation:
    """ttnn's function at this path below `ttnn`."""
    return reduce(getattr, path.split("."), ttnn)


# ttnn has some functions under two names, and calls them by one.
_PATHS = {operation(path).python_fully_qualified_name: path for path in DEFINITIONS}


@contextmanager
def stand_in(mesh: ChipMesh) -> Iterator[None]:
    """Meanwhile, calls of ttnn's functions are of the definitions, with `mesh`.

    They raise GoldenError for a function that has no definition, and for keywords that its definition does not know.
    """

    def call(function: FastOperation, *arguments: Any, **named: Any) -> Any:
        return _call(function.python_fully_qualified_name, mesh, arguments, named)

    with ExitStack() as stack:
        stack.enter_context(patch.object(FastOperation, "__call__", call))
        stack.enter_context(patch.object(ttnn, "create_global_semaphore", lambda *_: Semaphore()))
        stack.enter_context(patch.object(ttnn, "get_num_links", lambda *_: 1))
        stack.callback(forget_semaphores, mesh)
        yield


def _call(name: str, mesh: ChipMesh, arguments: tuple[Any, ...], named: dict[str, Any]) -> Any:
    if name not in _PATHS:
        raise GoldenError(f"{name} has no definition here")
    if any(argument is None for argument in arguments):
        raise GoldenError(f"{name}: an operand is freed already, or not made yet")
    try:
        return DEFINITIONS[_PATHS[name]](mesh, *arguments, **named)
    except TypeError as error:
        raise GoldenError(f"{name}: {error}") from error
