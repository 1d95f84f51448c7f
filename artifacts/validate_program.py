"""What must hold in a program on its own. The writer and the reader both run it, so a backend need not check again."""

import re

from mochi_aot.artifacts.errors import BundleError
from mochi_aot.artifacts.layout import LAYOUTS
from mochi_aot.artifacts.roles import RATES
from mochi_aot.artifacts.schema import Instruction, Program, TensorSpec
from mochi_aot.artifacts.validate import require, require_dtype, require_shape, require_unique, tensors

OP = re.compile(r"[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*)*")
# A backend may keep its values in a list indexed by id, so ids are bounded.
MAX_VALUE = 1 << 24


def check_program(program: Program, where: str) -> None:
    """Raise BundleError at the first thing that does not fit; `where` begins the message.

    Every value is defined once, before its uses. Every instruction result is freed exactly once, after its last use,
    unless it is an output. Inputs may be freed; weights and outputs may not.
    """
    require(program.name != "" and program.plan != "", where, "expected a name and a plan")
    for values, what in ((program.inputs, "input"), (program.weights, "weight"), (program.outputs, "output")):
        require_unique((value.name for value in values), where, what)
        require(all(value.name != "" for value in values), where, f"an {what} without a name")
    for name, spec in tensors(program):
        check_spec(spec, f"{where}: {name!r}")
    for source in program.inputs:
        require(source.rate in RATES, where, f"input {source.name!r}: rate {source.rate!r} is not one of {RATES}")
    _check_stats(program, where)
    _Liveness(program, where).check()


def check_spec(spec: TensorSpec, where: str) -> None:
    """Raise BundleError unless the local shape follows from the global one and the placements."""
    require_dtype(spec.dtype, where)
    require_shape(spec.shape, where)
    require_shape(spec.local_shape, where)
    require(spec.layout in LAYOUTS, where, f"unknown layout {spec.layout!r}, expected one of {', '.join(LAYOUTS)}")
    local = list(spec.shape)
    placements = [placement for placement in spec.placements if placement is not None]
    require_unique((placement.dim for placement in placements), where, "sharded dim")
    for placement in placements:
        require(0 <= placement.dim < len(local), where, f"shards dim {placement.dim} of shape {spec.shape}")
        require(placement.chunk >= 1, where, f"expected a positive chunk, seen {placement.chunk}")
        local[placement.dim] = placement.chunk
    require(spec.local_shape == local, where, f"expected the local shape {local}, seen {spec.local_shape}")


def _check_stats(program: Program, where: str) -> None:
    stats = program.stats
    counts = [stats.flops, stats.weight_bytes, stats.collective_bytes, *stats.collectives.values()]
    require(min(counts) >= 0, where, "expected no negative number in stats")


class _Liveness:
    """Runs over the instructions once, keeping the set of values that are alive."""

    def __init__(self, program: Program, where: str) -> None:
        self.program, self.where = program, where
        self.alive: set[int] = set()
        self.defined: set[int] = set()
        # Weights stay for the next run, and outputs are the caller's.
        self.kept = {weight.value for weight in program.weights} | {output.value for output in program.outputs}

    def check(self) -> None:
        for source in self.program.inputs:
            self._define(source.value, f"{self.where}: input {source.name!r}")
        for weight in self.program.weights:
            self._define(weight.value, f"{self.where}: weight {weight.name!r}")
        results: set[int] = set()
        for index, instruction in enumerate(self.program.instructions):
            self._step(instruction, f"{self.where}: instruction {index} ({instruction.op})")
            results.update(instruction.results)
        for output in self.program.outputs:
            require(output.value in self.alive, self.where, f"output {output.name!r} is a value that nothing defines")
        leaked = (results & self.alive) - self.kept
        require(not leaked, self.where, f"expected every result to be freed, seen {sorted(leaked)[:8]} never freed")

    def _step(self, instruction: Instruction, where: str) -> None:
        require(OP.fullmatch(instruction.op) is not None, where, "expected an op name of lower-case words")
        for value in instruction.operands:
            self._require_alive(value, where, "uses")
        require(len(instruction.results) > 0, where, "expected a result, seen none")
        for value in instruction.results:
            self._define(value, where)
        for value in instruction.free:
            self._require_alive(value, where, "frees")
            require(value not in self.kept, where, f"frees value {value}, which is a weight or an output")
            self.alive.remove(value)

    def _define(self, value: int, where: str) -> None:
        require(0 <= value < MAX_VALUE, where, f"expected value ids from 0 to {MAX_VALUE - 1}, seen {value}")
        require(value not in self.defined, where, f"defines value {value} a second time")
        self.defined.add(value)
        self.alive.add(value)

    def _require_alive(self, value: int, where: str, verb: str) -> None:
        if value not in self.alive:
            problem = "after it was freed" if value in self.defined else "before it is defined"
            raise BundleError(f"{where}: {verb} value {value} {problem}")
