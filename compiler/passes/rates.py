"""Splits a program by how often its values change: loop-invariant code motion over four nested loops.

A value's rate is the fastest rate among what it is computed from. Each rate becomes a program of its own, whose
outputs the faster ones take as inputs. What depends on parameters and constants alone has the rate `geometry`; the
compiler runs that program itself, and its outputs become parameters of the others.
"""

from mochi_aot.artifacts.roles import GEOMETRY, LATENT, PROMPT, RATES, STEP
from mochi_aot.compiler.ir.builder import Builder
from mochi_aot.compiler.ir.program import Computed, Op, Program, Value
from mochi_aot.compiler.passes.dce import eliminate_dead_code

# Results that cost nothing to make again and can be larger than their operand: made where they are used.
REMADE = frozenset(("expand", "reshape"))

# A value of every step is kept for all steps at once. Where one is spread over a larger value of the prompt (a
# modulation over all text tokens, say), keeping the result costs more than computing it in the loop saves.
MAX_SPREAD = 4


def rates_of(program: Program) -> dict[Value, str]:
    """Return the rate of every value."""
    rates = {item.value: item.rate for item in program.inputs}
    rates.update({param.value: GEOMETRY for param in program.params})
    for op in program.ops:
        fastest = max((rates[v] for v in op.operands), key=RATES.index, default=GEOMETRY)
        if fastest == STEP and _spreads(op, rates):
            fastest = LATENT
        rates.update(dict.fromkeys(op.results, fastest))
    return rates


def _spreads(op: Op, rates: dict[Value, str]) -> bool:
    """Return whether `op` joins a value of the step with one of the prompt into something much larger than the
    former."""
    if all(rates[v] != PROMPT for v in op.operands):
        return False
    stepwise = max(v.type.nbytes for v in op.operands if rates[v] == STEP)
    return max(v.type.nbytes for v in op.results) > MAX_SPREAD * stepwise


def split_by_rates(program: Program) -> dict[str, Program]:
    """Return programs by rate, those that compute nothing left out, and ops that no output depends on.

    The fastest keeps the program's name and its outputs; a slower one is called `<name>.<rate>` and its outputs
    `<name>.<rate>.<n>`, which are input names (or `Computed` recipes, for `geometry`) in the faster ones.
    """
    return _Splitter(eliminate_dead_code(program)).run()


class _Splitter:
    def __init__(self, program: Program) -> None:
        self.source = program
        self.rates = rates_of(program)
        self.params = {param.value: param for param in program.params}
        self.producer = {result: op for op in program.ops for result in op.results}
        self.fastest = max((self.rates[o.value] for o in program.outputs), key=RATES.index)
        self.builders = {rate: Builder(self._name(rate)) for rate in RATES}
        self.local: dict[str, dict[Value, Value]] = {rate: {} for rate in RATES}
        self.exports: dict[tuple[str, Value], str] = {}

    def _name(self, rate: str) -> str:
        return self.source.name if rate == self.fastest else f"{self.source.name}.{rate}"

    def run(self) -> dict[str, Program]:
        for item in self.source.inputs:
            self._at(item.value, item.rate)
        for op in self.source.ops:
            self._place(op, self.rates[op.results[0]])
        for output in self.source.outputs:
            self.builders[self.fastest].output(output.name, self._at(output.value, self.fastest))
        programs = {rate: builder.program for rate, builder in self.builders.items()}
        return {rate: p for rate, p in programs.items() if p.outputs}

    def _place(self, op: Op, rate: str) -> None:
        values = {v: self._at(v, rate) for v in op.operands}
        self.builders[rate].copy_op(op, values)
        self.local[rate].update((result, values[result]) for result in op.results)

    def _at(self, value: Value, rate: str) -> Value:
        """Return `value` inside the program of `rate`: its own, a parameter, an op made again, or an import."""
        known = self.local[rate]
        if value not in known:
            builder = self.builders[rate]
            producer = self.producer.get(value)
            if value in self.params:
                known[value] = builder.param(value.name, value.type, self.params[value].recipe)
            elif self.rates[value] == rate:
                known[value] = builder.input(value.name, value.type, rate)
            elif producer is not None and producer.opcode in REMADE and self.rates[value] != GEOMETRY:
                self._place(producer, rate)
            else:
                known[value] = self._import(value, rate)
        return known[value]

    def _import(self, value: Value, rate: str) -> Value:
        origin = self.rates[value]
        builder = self.builders[rate]
        name = self._export(value, origin)
        if origin == GEOMETRY:
            return builder.param(name, value.type, Computed(self._name(origin), name))
        return builder.input(name, value.type, origin)

    def _export(self, value: Value, origin: str) -> str:
        key = (origin, value)
        if key not in self.exports:
            name = f"{self.source.name}.{origin}.{len(self.exports)}"
            self.builders[origin].output(name, self._at(value, origin))
            self.exports[key] = name
        return self.exports[key]
