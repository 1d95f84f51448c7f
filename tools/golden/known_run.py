"""Runs the programs of a bundle on known inputs, one after the other: what one makes the next reads."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from mochi_aot.artifacts.reader import Bundle
from mochi_aot.artifacts.roles import ROLES
from mochi_aot.artifacts.schema import Program
from mochi_aot.runtime.backend import Executable, Wait, Watch, no_wait
from mochi_aot.runtime.errors import BackendError
from mochi_aot.runtime.geometry import geometry_name
from mochi_aot.runtime.ttnn.backend import TtnnBackend
from mochi_aot.tools.golden.known_inputs import host_inputs

# Called with a program and the index of its instruction that comes next.
Progress = Callable[[Program, int], None]


def no_progress(program: Program, index: int) -> None:
    """Tell nobody."""


@dataclass(frozen=True)
class Ready:
    """A program with its inputs and weights on the chips, by name; or why it has none."""

    geometry: str
    role: str
    program: Program
    inputs: dict[str, Any]
    weights: dict[str, Any]
    failure: str | None = None


class KnownRun:
    """The programs of a bundle, for prompts of so many tokens. A program's weights go when the next one is ready."""

    def __init__(self, backend: TtnnBackend, bundle: Bundle, tokens: tuple[int, int], wait: Wait = no_wait) -> None:
        """`wait` is called with the name of each weight before it is loaded."""
        self.backend, self.tokens = backend, tokens
        self._bundle, self._wait = bundle, wait
        self._loaded: list[str] = []
        self._values: dict[str, Any] = {}

    def each(self, roles: Iterable[str]) -> Iterator[Ready]:
        """Yield these programs, and those that they read from, of every geometry; run each before the next."""
        wanted = _with_sources(set(roles))
        for geometry in self._bundle.manifest.geometries:
            self._values = {}
            for role in ROLES:
                if role in wanted and role in geometry.programs:
                    yield self._ready(geometry_name(geometry), role, self._bundle.program(role, geometry))
        self.backend.free_weights(self._loaded)

    def run(self, ready: Ready, watch: Watch | None = None) -> Executable:
        """Run a program and keep what later programs read. Return it, to be run again. Raises BackendError."""
        executable = self.backend.load_program(ready.program)
        made = executable.run(ready.inputs, watch)
        if ready.role.startswith("prepare"):  # all others have inputs of their own
            self._values |= made
        return executable

    def _ready(self, geometry: str, role: str, program: Program) -> Ready:
        try:
            return Ready(geometry, role, program, self._inputs(program, role), self._weights(program))
        except BackendError as error:
            return Ready(geometry, role, program, {}, {}, str(error))

    def _inputs(self, program: Program, role: str) -> dict[str, Any]:
        """Return the inputs on the chips. Raise BackendError where an earlier program failed to make one."""
        given: Mapping[str, Any] = host_inputs(program, role, self.tokens)
        inputs = {}
        for source in program.inputs:
            if source.name in ROLES[role].inputs:
                inputs[source.name] = self.backend.upload(given[source.name], source.spec)
            elif source.name in self._values:
                inputs[source.name] = self._values[source.name]
            else:
                raise BackendError(f"program {role!r} reads {source.name!r}, which no program before it has made")
        return inputs

    def _weights(self, program: Program) -> dict[str, Any]:
        self.backend.free_weights(self._loaded)
        self._loaded = [weight.name for weight in program.weights]
        self.backend.load_weights(self._bundle, self._loaded, self._wait)
        return {name: self.backend.weight(name) for name in self._loaded}


def _with_sources(roles: set[str]) -> set[str]:
    """Add the programs that make what these read."""
    return roles.union(*(ROLES[role].sources for role in roles))
