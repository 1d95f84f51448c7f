"""Runs the programs of a bundle on a backend, and compares each instruction with its definition."""

import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from mochi_aot.artifacts.layout import ROLES
from mochi_aot.artifacts.reader import Bundle
from mochi_aot.artifacts.schema import Program
from mochi_aot.runtime.errors import BackendError
from mochi_aot.runtime.geometry import geometry_name
from mochi_aot.runtime.programs import HOST_INPUTS
from mochi_aot.runtime.ttnn.backend import TtnnBackend
from mochi_aot.tools.golden.comparison import Compared, Comparison
from mochi_aot.tools.golden.known_inputs import host_inputs
from mochi_aot.tools.golden.types import GoldenError


@dataclass(frozen=True)
class Found:
    """An instruction of a program, and how far its result is from its definition's on the chip where it is furthest."""

    instruction: int
    op: str
    loc: str
    chip: int
    pcc: float
    error: float


@dataclass(frozen=True)
class ValuesReport:
    """A program whose instructions were compared: `departures` in order, `worst` by PCC, and why it ended early."""

    geometry: str
    role: str
    mesh: str
    tokens: tuple[int, int]
    instructions: int
    compared: int
    worst: Found | None
    departures: list[Found]
    seconds: float
    failure: str | None = None

    @property
    def right(self) -> bool:
        """Whether every instruction was compared, and none departs."""
        return self.failure is None and not self.departures


class ProgramsCheck:
    """The programs of a bundle, for prompts of so many tokens; what one makes the next reads, as the chips hold it."""

    def __init__(self, backend: TtnnBackend, bundle: Bundle, tokens: tuple[int, int]) -> None:
        self._backend, self._bundle, self._tokens = backend, bundle, tokens
        self._loaded: list[str] = []

    def run(self, roles: Iterable[str]) -> Iterator[ValuesReport]:
        """Yield a report for each of these programs, and those that they read from, of every geometry."""
        wanted = _with_sources(set(roles))
        for geometry in self._bundle.manifest.geometries:
            values: dict[str, Any] = {}
            for role in ROLES:
                if role in wanted and role in geometry.programs:
                    program = self._bundle.program(role, geometry)
                    yield self._one(geometry_name(geometry), role, program, values)
        self._backend.free_weights(self._loaded)

    def _one(self, geometry: str, role: str, program: Program, values: dict[str, Any]) -> ValuesReport:
        started, failure = time.monotonic(), None
        comparison = None
        try:
            inputs = self._inputs(program, role, values)
            weights = self._weights(program)
            comparison = Comparison.of(program, inputs, weights)
            made = self._backend.load_program(program).run(inputs, comparison)
            # The latents of a step are of no use to the decoder's own, known inputs.
            values.update({} if role == "denoise" else made)
        except (BackendError, GoldenError) as error:
            failure = str(error)
        compared = comparison.compared if comparison is not None else []
        return ValuesReport(
            geometry=geometry,
            role=role,
            mesh="x".join(map(str, program.mesh)),
            tokens=self._tokens,
            instructions=len(program.instructions),
            compared=len(compared),
            worst=_found(comparison.worst) if comparison is not None and comparison.worst is not None else None,
            departures=[_found(one) for one in comparison.departures] if comparison is not None else [],
            seconds=round(time.monotonic() - started, 1),
            failure=failure,
        )

    def _inputs(self, program: Program, role: str, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return the inputs on the chips. Raise BackendError where an earlier program failed to make one."""
        given = host_inputs(program, role, self._tokens)
        inputs = {}
        for source in program.inputs:
            if source.name in HOST_INPUTS[role]:
                inputs[source.name] = self._backend.upload(given[source.name], source.spec)
            elif source.name in values:
                inputs[source.name] = values[source.name]
            else:
                raise BackendError(f"program {role!r} reads {source.name!r}, which no program before it has made")
        return inputs

    def _weights(self, program: Program) -> dict[str, Any]:
        self._backend.free_weights(self._loaded)
        self._loaded = [weight.name for weight in program.weights]
        self._backend.load_weights(self._bundle, self._loaded)
        return {name: self._backend.weight(name) for name in self._loaded}


def _with_sources(roles: set[str]) -> set[str]:
    """Add the programs that make what the denoising step reads."""
    return roles | ({"prepare_prompt", "prepare_steps"} if {"denoise", "prepare_steps"} & roles else set())


def _found(one: Compared) -> Found:
    instruction, agreement = one.instruction, one.agreement
    return Found(one.index, instruction.op, instruction.loc, one.chip, agreement.pcc, agreement.error)
