"""What the tests of all tools share."""

from collections.abc import Iterator
from copy import deepcopy

import pytest

from mochi_aot.compiler import programs
from mochi_aot.compiler.ir.program import Program
from mochi_aot.compiler.reference.config import MochiConfig
from mochi_aot.compiler.reference.geometry import Geometry
from mochi_aot.compiler.reference.traced_modules import TracedModule
from mochi_aot.tools.commands import console


@pytest.fixture(autouse=True)
def _no_lines_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep out of stderr the lines that a command says every ten seconds: on a slow machine there would be more."""
    monkeypatch.setattr(console, "PERIOD", 3600.0)


@pytest.fixture(scope="session", autouse=True)
def _traced_once() -> Iterator[None]:
    """Trace a model of one size once for all commands that run in this process: that is most of a small compile."""
    traced, known = programs._traced, dict[tuple[str, MochiConfig, Geometry, str, str], Program]()

    def known_or_traced(
        unit: TracedModule, config: MochiConfig, geometry: Geometry, dtype: str, text_dtype: str
    ) -> Program:
        key = (unit.name, config, geometry, dtype, text_dtype)
        if key not in known:
            known[key] = traced(unit, config, geometry, dtype, text_dtype)
        return deepcopy(known[key])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(programs, "_traced", known_or_traced)
        yield
