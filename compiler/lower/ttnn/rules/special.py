"""Rules for some of the ops of an opcode. Import their modules after those of the rules for all."""

from collections.abc import Callable

from mochi_aot.compiler.ir.program import Op
from mochi_aot.compiler.lower.ttnn.lowerer import Lowerer
from mochi_aot.compiler.lower.ttnn.rules.table import RULES, Rule


def rule_where(opcode: str, applies: Callable[[Op], bool]) -> Callable[[Rule], Rule]:
    """Registers a rule for the ops that `applies` is true of; the others keep the rule that they have."""

    def register(function: Rule) -> Rule:
        otherwise = RULES[opcode]

        def choose(lo: Lowerer, op: Op) -> None:
            (function if applies(op) else otherwise)(lo, op)

        RULES[opcode] = choose
        return function

    return register
