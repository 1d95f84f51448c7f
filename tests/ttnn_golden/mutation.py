"""The runtime's tables with one fault in their source."""

import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.machinery import SourceFileLoader
from types import CodeType
from unittest.mock import patch

from mochi_aot.runtime.ttnn import executor

PACKAGE = "mochi_aot.runtime.ttnn"


@dataclass(frozen=True)
class Mutation:
    """In `module` of the runtime's ttnn folder, `new` in the place of `old`, which its source has once."""

    module: str
    old: str
    new: str


@contextmanager
def mutated(mutation: Mutation) -> Iterator[None]:
    """Meanwhile, programs are executed by a context and an op table that were imported from the changed source.

    ValueError if the source does not have what is to be changed just once.
    """
    changed = f"{PACKAGE}.{mutation.module}"
    original = SourceFileLoader.get_code

    def get_code(loader: SourceFileLoader, name: str) -> CodeType | None:
        if name != changed:
            return original(loader, name)
        source = loader.get_data(loader.path).decode()
        if source.count(mutation.old) != 1:
            raise ValueError(f"{name} has {mutation.old!r} {source.count(mutation.old)} times, expected once")
        return compile(source.replace(mutation.old, mutation.new), loader.path, "exec")

    context, table = _imported_anew(get_code)
    with patch.object(executor, "OPS", table.OPS), patch.object(executor, "Context", context.Context):
        yield


def _imported_anew(get_code: object) -> tuple[object, object]:
    """The modules of the context and the table, which leave those that everyone else has as they are."""
    names = (f"{PACKAGE}.context", f"{PACKAGE}.ops")
    package = sys.modules[PACKAGE]
    kept = {name: module for name, module in sys.modules.items() if not name.startswith(names)}
    with (
        patch.dict(sys.modules, kept, clear=True),
        patch.object(package, "context"),
        patch.object(package, "ops"),
        patch.object(SourceFileLoader, "get_code", get_code),
    ):
        context, table = map(importlib.import_module, names)
    return context, table
